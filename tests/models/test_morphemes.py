"""The wide-and-deep encoder: what each half reads, the table's two parts, and the byte a number in the end."""

from __future__ import annotations

import pytest
import torch

from hfk.models.modeling_morphemes import MorphemesConfig, MorphemesModel

PIECES = ["", "", " ", "대통령", "국회", "방문", "Kiwi", "동대문디자인플라자", "🙂"]
SPACE, WORDS = 2, torch.tensor([[3, 2, 4, 5, 0, 0], [6, 2, 3, 4, 2, 5]])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])


def model(**options) -> MorphemesModel:
    torch.manual_seed(0)
    shape = {"vocab_size": len(PIECES), "num_trained": 5, "embedding_size": 6, "num_filters": 4, "deep_size": 8}
    made = MorphemesModel(MorphemesConfig(**shape | {"space_token_id": SPACE} | options)).eval()
    made.embeddings.fill(torch.randn(len(PIECES), 6) * 0.3)
    if made.ngrams is not None:
        made.learn_letters(PIECES)
    return made


def test_the_table_gives_every_piece_its_vector():
    vectors = torch.randn(len(PIECES), 6)
    made = model()
    made.embeddings.fill(vectors)
    given = made.embeddings(torch.arange(len(PIECES)))
    assert torch.equal(given[:5], vectors[:5])
    torch.testing.assert_close(given[5:], vectors[5:], atol=vectors.abs().max().item() / 250, rtol=0)


def test_padding_and_spaces_are_nothing_to_the_deep_half():
    made = model()
    alone = made(torch.tensor([[3, 4, 5]])).pooler_output
    torch.testing.assert_close(made(WORDS, MASK).pooler_output[:1], alone)


def test_a_text_without_deep_layers_is_the_mean_of_its_vectors():
    made = model(windows=[], deep_size=0)
    torch.testing.assert_close(made(WORDS, MASK).pooler_output[0], made.embeddings(torch.tensor([3, 4, 5])).mean(0))


def test_letters_are_spelled_word_by_word():
    made = model(ngrams={"num_buckets": 64, "embedding_size": 4})
    spelled = ["".join(chr(point) for point in row if point) for row in made.spell(WORDS, MASK).tolist()]
    assert spelled == ["대통령 국회방문", "kiwi 대통령국회 방문"]
    long, odd = made.spell(torch.tensor([[7], [8]]), torch.ones(2, 1)).tolist()
    assert "".join(map(chr, long)) == "동대문디자인플라" and odd[0] == 0xFFFD


def test_both_halves_stand_side_by_side():
    made = model(ngrams={"num_buckets": 64, "embedding_size": 4})
    both = made(WORDS, MASK)
    letters = made.spell(WORDS, MASK)
    assert both.pooler_output.shape == (2, 12) and made.config.hidden_size == 12
    torch.testing.assert_close(both.pooler_output[:, 8:], made.ngrams(letters, letters != 0).pooler_output)
    assert both.last_hidden_state.shape == (2, 6, 12)


def test_looking_each_piece_up_once_changes_no_answer():
    made = model(dropout=0.0, word_dropout=0.0, windows=[1, 2, 3, 4], ngrams={"num_buckets": 64, "embedding_size": 4})
    every = [made.train(mode)(WORDS, MASK).pooler_output for mode in (True, False)]
    torch.testing.assert_close(*every)
    kernel = made.convolutions[3]
    vectors = made.embeddings(torch.tensor([[3, 4, 5]])).transpose(1, 2)
    expected = kernel(torch.nn.functional.pad(vectors, (1, 2))).relu().amax(2)
    found = model(windows=[4], deep_size=0)
    found.convolutions[0].load_state_dict(kernel.state_dict())
    found.embeddings.load_state_dict(made.embeddings.state_dict())
    torch.testing.assert_close(found(WORDS, MASK).pooler_output[:1, 6:], expected)


def test_pieces_without_weights_stay_and_the_others_learn():
    made = model()
    made.train()(WORDS, MASK).pooler_output.sum().backward()
    touched = made.embeddings.trained.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, False, True, True]
    assert all(not values.requires_grad for values in made.embeddings.buffers())


def test_compacting_changes_little_and_comes_back_from_a_folder(tmp_path):
    made = model(ngrams={"num_buckets": 64, "embedding_size": 4})
    before = made(WORDS, MASK).pooler_output
    made.compact()
    after = made(WORDS, MASK).pooler_output
    torch.testing.assert_close(after, before, atol=0.02, rtol=0)
    made.save_pretrained(tmp_path)
    loaded = MorphemesModel.from_pretrained(tmp_path)
    assert len(loaded.embeddings.trained.weight) == 1 and loaded.embeddings.codes.dtype == torch.int8
    assert loaded.ngrams.embeddings.codes.dtype == torch.int8 and not list(loaded.ngrams.parameters())
    torch.testing.assert_close(loaded(WORDS, MASK).pooler_output, after)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"windows": [0]}, "windows must be sizes from 1 to 32"),
        ({"num_trained": 99}, "num_trained must be from 1 to 9, not 99"),
        ({"word_dropout": 1.0}, "word_dropout must be in"),
        ({"ngrams": {"space_token_id": 4}}, "ngrams has no option 'space_token_id'"),
        ({"ngrams": {"char_ngrams": [4, 2]}}, "char_ngrams must be"),
    ],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        MorphemesConfig(**{"vocab_size": 9} | options)
