"""The n-gram encoder: scikit-learn's features without its vocabulary, the same everywhere; and it travels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import AutoConfig, AutoModel

from hfk import MultiHeadForClassification
from hfk.models.modeling_ngram import NGramConfig, NGramModel
from hfk.training.scratch import train_tokenizer
from tests import tiny

TEXTS = [*tiny.SENTENCES, "바닷가 바닷가 바닷가의 카페", "절 절 절", "한 식 당", "1 2 3 4 5", "ㅋㅋㅋㅋㅋㅋㅋ"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "character")


def encode(tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def make(tokenizer, **options) -> NGramModel:
    known = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "unk_token_id": tokenizer.unk_token_id,
        "space_token_id": tokenizer.convert_tokens_to_ids(" "),
    }
    torch.manual_seed(0)
    return NGramModel(
        NGramConfig(**({"num_buckets": 2**18, "embedding_size": 4, "min_count": 1} | known | options))
    ).eval()


def vectors(model: NGramModel, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """The texts' TF-IDF vectors, of the buckets that any of them has."""
    buckets, weights = model.features(ids, mask)
    names = buckets.unique()
    dense = torch.zeros(len(ids), len(names))
    return dense.scatter_add(1, torch.searchsorted(names, buckets), weights).numpy()


@pytest.mark.parametrize("sublinear", [True, False])
@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"char_ngrams": [2, 4]}, {"analyzer": "char_wb", "ngram_range": (2, 4)}),
        ({"char_ngrams": [3, 3]}, {"analyzer": "char_wb", "ngram_range": (3, 3)}),
        ({"char_ngrams": [1, 1]}, {"analyzer": "char", "preprocessor": lambda text: text.replace(" ", "")}),
        ({"char_ngrams": None, "word_ngrams": 1}, {"token_pattern": r"\S+"}),
        ({"char_ngrams": None, "word_ngrams": 2}, {"token_pattern": r"\S+", "ngram_range": (1, 2)}),
    ],
)  # fmt: skip
def test_features_are_those_of_scikit_learn(tokenizer, options, same, sublinear):
    model = make(tokenizer, **options, sublinear_tf=sublinear, num_buckets=2**21, embedding_size=1)  # none shared
    ids, mask = encode(tokenizer, TEXTS)
    model.fit([(ids[:4], mask[:4]), (ids[4:], mask[4:])])
    theirs = TfidfVectorizer(**same, lowercase=False, sublinear_tf=sublinear, norm=None).fit_transform(TEXTS).toarray()
    mine = vectors(model, ids, mask)
    for row, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(np.sort(row[row > 0]), np.sort(other[other > 0]), rtol=1e-5)
    # What two texts have in common is the same, so the n-grams are the same ones.
    np.testing.assert_allclose(mine @ mine.T, theirs @ theirs.T, rtol=1e-4)


def test_the_vector_is_the_normalized_sum_of_embeddings(tokenizer):
    model = make(tokenizer, word_ngrams=2)
    ids, mask = encode(tokenizer, TEXTS)
    model.fit([(ids, mask)])
    buckets, weights = model.features(ids, mask)
    expected = (model.embeddings.weight[buckets] * weights[..., None]).sum(1) / weights.norm(dim=1)[:, None]
    output = model(ids, mask)
    torch.testing.assert_close(output.pooler_output, expected)
    assert torch.equal(output.last_hidden_state, output.pooler_output[:, None].expand(-1, ids.shape[1], -1))


BUCKETS = [
    148829, 405079, 476843, 369854, 345226, 144685, 50540, 278433, 54765, 228178, 374509, 291294, 203752, 78828, 326492,
]  # fmt: skip
CHECKS = [194, 90, 74, 20, 252, 85, 194, 109, 138, 203, 91, 151, 238, 22, 102]


def test_hashes_are_the_same_on_every_machine():
    model = NGramModel(NGramConfig(vocab_size=20000, char_ngrams=[1, 5], word_ngrams=2))
    buckets, checks = model.hashes(torch.tensor([[3, 17, 2, 19999]]))
    assert buckets[buckets > 0].tolist() == BUCKETS
    assert checks[buckets > 0].tolist() == CHECKS


def test_each_text_of_a_row_has_ngrams_of_its_own_and_a_text_alone_those_it_always_had():
    for options in ({}, {"char_ngrams": None, "word_ngrams": 2}):
        known = {"vocab_size": 1000, "char_ngrams": [1, 4]} | options
        one, apart = (NGramModel(NGramConfig(**known, sep_token_id=sep)) for sep in (None, 9))
        single, both = torch.tensor([[3, 17, 2, 19]]), torch.tensor([[3, 2, 9, 2, 17, 19], [3, 17, 2, 9, 2, 19]])
        (mine, my_checks), (theirs, their_checks) = apart.hashes(single), one.hashes(single)
        assert torch.equal(mine[mine > 0], theirs[theirs > 0])
        assert torch.equal(my_checks[mine > 0], their_checks[theirs > 0])
        first, second = apart.hashes(both)[0]
        assert first.unique().tolist() != second.unique().tolist()
        apart.fit([(torch.tensor([[5, 6, 9, 7, 8]] * 2), None)])  # of these pairs, no n-gram is known
        one_two, two_one = (apart(torch.tensor([ids])).pooler_output for ids in ([20, 9, 21, 22], [20, 21, 9, 22]))
        assert not torch.equal(one_two, two_one)
        in_first, in_second = (set(apart.hashes(torch.tensor([ids]))[0][0].tolist()) - {0} for ids in ([17], [9, 17]))
        assert in_first and in_second and not in_first & in_second


def test_hashes_spread_evenly():
    model = NGramModel(NGramConfig(vocab_size=3000, num_buckets=4097, char_ngrams=[2, 4]))
    ids = torch.randint(3, 3000, (2000, 40), generator=torch.Generator().manual_seed(0))
    buckets, checks = model.hashes(ids)
    for values, size in ((buckets, 4096), (checks, 255), (buckets.long() * 255 + checks, 4096 * 255)):
        counts = values[buckets > 0].long().unique(return_counts=True)[1].double()
        expected = counts.sum() / size
        assert len(counts) / size == pytest.approx(1 - math.exp(-expected), rel=0.02)  # as by chance
        if expected > 50:
            assert counts.std() / expected.sqrt() == pytest.approx(1.0, abs=0.15)


def test_what_no_training_text_has_counts_nothing(tokenizer):
    model = make(tokenizer)
    ids, mask = encode(tokenizer, TEXTS)
    model.fit([(ids, mask)])
    known, _ = encode(tokenizer, ["해 뜨는"])
    strange, _ = encode(tokenizer, ["해 뜨는 漢字"])
    assert (strange == tokenizer.unk_token_id).sum() == 2
    torch.testing.assert_close(model(strange).pooler_output, model(known).pooler_output)
    nothing, _ = encode(tokenizer, ["漢字"])
    assert (model(nothing).pooler_output == 0).all()
    assert model(torch.zeros(2, 0, dtype=torch.long)).pooler_output.shape == (2, 4)


def test_ngrams_that_too_few_texts_have_count_nothing(tokenizer):
    model = make(tokenizer, char_ngrams=None, word_ngrams=1, min_count=3)
    ids, mask = encode(tokenizer, ["절 카페", "절 숲", "절 카페", "숲"])
    model.fit([(ids, mask)])
    assert int((model.idf > 0).sum()) == 1
    rare, _ = encode(tokenizer, ["카페 숲"])
    assert (model(rare).pooler_output == 0).all()


def test_of_ngrams_that_share_a_bucket_the_most_frequent_counts(tokenizer):
    model = make(tokenizer, char_ngrams=None, word_ngrams=1, num_buckets=2)  # one bucket for all
    ids, mask = encode(tokenizer, ["절 카페", "절 숲", "절", "카페"])
    for batches in ([(ids, mask)], [(ids[i : i + 1], mask[i : i + 1]) for i in (3, 1, 0, 2)]):
        model.fit(batches)
        weights = model.features(*encode(tokenizer, ["절", "카페", "숲", "절 카페 숲"]))[1]
        assert (weights > 0).sum(1).tolist() == [1, 0, 0, 1]
        assert weights.max() == pytest.approx(math.log(5 / 4) + 1)


def test_padding_on_either_side_and_neighbors_change_nothing(tokenizer):
    model = make(tokenizer, char_ngrams=[1, 5], word_ngrams=2)
    ids, mask = encode(tokenizer, TEXTS)
    for row, text in enumerate(TEXTS):
        alone, _ = encode(tokenizer, [text])
        left = torch.cat([torch.full((1, 7), 9), alone], 1)
        expected = model(ids, mask).pooler_output[row : row + 1]
        torch.testing.assert_close(model(alone).pooler_output, expected)
        left_mask = (torch.arange(left.shape[1]) >= 7).long()[None]
        torch.testing.assert_close(model(left, left_mask).pooler_output, expected)


def test_every_pooling_gives_the_vector(tokenizer):
    ids, mask = encode(tokenizer, TEXTS)
    encoder = make(tokenizer)
    for pooling in ("cls", "mean", "max", "attention"):
        model = MultiHeadForClassification.from_encoders(encoder, heads=tiny.heads(), text_pooling=pooling)
        output = model(input_ids=ids, attention_mask=mask)
        torch.testing.assert_close(output.embedding, encoder(ids, mask).pooler_output)


@pytest.mark.parametrize("fusion", ["tokens", "pooled", "gated"])
def test_it_fuses_with_pictures(fusion):
    model = tiny.model("ngram", "resnet", fusion=fusion)
    ids = torch.randint(3, tiny.VOCABULARY_SIZE, (3, 12))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    pixels = torch.randn(3, 3, 32, 32)
    together = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits["cat2"]
    alone = model(input_ids=ids[:1, :5], pixel_values=pixels[:1]).logits["cat2"]
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_ngram_dropout_leaves_some_out_in_training_only(tokenizer):
    model = make(tokenizer, dropout=0.5)
    ids, mask = encode(tokenizer, TEXTS)
    assert torch.equal(model(ids, mask).pooler_output, model(ids, mask).pooler_output)
    model.train()
    assert not torch.equal(model(ids, mask).pooler_output, model(ids, mask).pooler_output)


def test_what_was_fitted_survives_a_round_trip(tokenizer, tmp_path):
    model = make(tokenizer, num_buckets=999, word_ngrams=2, num_hidden_layers=1, hidden_size=6)
    ids, mask = encode(tokenizer, TEXTS)
    model.fit([(ids, mask)])
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is NGramModel and AutoConfig.from_pretrained(tmp_path).char_ngrams == [1, 4]
    assert torch.equal(loaded.idf, model.idf)
    assert torch.equal(loaded(ids, mask).pooler_output, model(ids, mask).pooler_output)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)(ids, mask).pooler_output
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(ids, mask).pooler_output, rtol=0.1, atol=0.02)


def test_it_exports_and_compiles_for_any_batch_and_length(tokenizer):
    model = make(tokenizer, num_buckets=999, char_ngrams=[2, 3], word_ngrams=2)
    ids, mask = encode(tokenizer, TEXTS)
    auto = torch.export.Dim.AUTO
    shapes = {"input_ids": {0: auto, 1: auto}, "attention_mask": {0: auto, 1: auto}}
    batch = {"input_ids": ids[:3], "attention_mask": mask[:3]}
    exported = torch.export.export(model, (), batch, dynamic_shapes=shapes).module()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for rows in (slice(0, 3), slice(6, 11)):
        width = int(mask[rows].sum(1).max())
        batch = {"input_ids": ids[rows, :width], "attention_mask": mask[rows, :width]}
        expected = model(**batch).pooler_output
        torch.testing.assert_close(exported(**batch)["pooler_output"], expected)
        torch.testing.assert_close(compiled(**batch).pooler_output, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"char_ngrams": [4, 2]}, "char_ngrams"),
        ({"char_ngrams": [0, 2]}, "char_ngrams"),
        ({"word_ngrams": 3}, "word_ngrams"),
        ({"char_ngrams": None}, "needs char_ngrams, word_ngrams, or both"),
        ({"num_buckets": 1}, "num_buckets"),
        ({"dropout": 1.0}, "dropout"),
        ({"embedding_size": 8, "hidden_size": 9}, "set num_hidden_layers"),
    ],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words) as error:
        NGramConfig(**options)
    assert "\n" not in str(error.value)
