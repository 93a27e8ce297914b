"""A translator is a stock seq2seq that is trained, resumed, reported and described as any run; its rules answer."""

from __future__ import annotations

import json
import shutil
import unicodedata

import pytest
import torch
import yaml
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerCallback, pipeline

from hfk import load_task, train
from hfk.hub.publishing import plan_push
from hfk.inference.translator import load_translator
from hfk.models.dialect_rules import Rules
from hfk.models.dialect_seq2seq import Seq2SeqRewriter, pieces, prompt_of
from hfk.training.translation import Seq2Seq, make_model, make_tokenizer

RECIPE = "dialect-translation-mini"
FAST = {"num_train_epochs": 1, "max_length": 60, "disable_tqdm": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translator")
    train(RECIPE, folder, FAST)
    return folder


def test_the_folder_loads_with_nothing_but_transformers(folder):
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "BartForConditionalGeneration"
    ids = tokenizer("<jeju>저녁에 떡국")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<jeju>", *"저녁에 떡국", "[EOS]"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "저녁에 떡국"


def test_the_run_has_report_card_recipe_and_predictions(folder):
    results = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert {line["way"] for line in results["translations"]} == {"copy", "rules", "model", "vote"}
    assert {line["to"] for line in results["translations"]} >= {"standard", "jeju", "jeolla"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "A demonstration" in card and "jeju → standard" in card and "{{" not in card
    assert yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["task"] == RECIPE
    assert (folder / "predictions.parquet").is_file() and not list(folder.rglob("*.bin"))


def test_the_pipeline_travels_with_the_checkpoint(folder):
    translate = pipeline("dialect-translation", model=str(folder), trust_remote_code=True)
    row = next(row for row in load_task(RECIPE).load()["train"] if row["source"] == "gyeongsang")
    assert translate(row["text"], to="standard", source="gyeongsang")["text"] == row["target"]
    answers = translate(["", "점심에 떡국 뭇나?", None], to="jeju", source="gyeongsang")
    assert [set(answer) for answer in answers] == [{"error"}, {"text", "source"}, {"error"}]
    assert set(translate(row["text"], to="standard", by="model")) == {"text", "source"}


def test_a_translator_is_loaded_by_our_own_code_or_refused(folder, tmp_path):
    translator = load_translator(folder, by="model")
    text = next(load_translator(folder)(["점심에 떡국 뭇나?"], to="standard"))
    assert next(translator(["점심에 떡국 뭇나?"], to="standard")) == text
    with pytest.raises(ValueError, match="is no checkpoint: give a translator's folder"):
        load_translator(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bart"}', encoding="utf-8")
    with pytest.raises(ValueError, match="type 'bart': give a translator's"):
        load_translator(tmp_path)


def test_a_push_sends_all_that_a_translator_needs(folder):
    sent = set(plan_push(folder, "owner/translator").files)
    assert sent >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md",
                    "dialect_rules.json", "pipeline_dialect.py", "dialect_translator.py", "dialect_rules.py",
                    "dialect_seq2seq.py"}  # fmt: skip
    assert "handler.py" not in sent and "predictions.parquet" not in sent


def test_what_the_model_cannot_say_is_copied(folder):
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rewriter = Seq2SeqRewriter(model, tokenizer)
    texts = ["Seoul 🙂", "12:30 3.5km", "가" * 10_000, "", "ㅎㅏㄴ ﾡ"]
    assert rewriter(texts, ["jeju"] * len(texts)) == texts


class Stop(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_a_vote_takes_the_likelier_answer_by_rules_and_model_together(folder, monkeypatch):
    translator = load_translator(folder)
    row = load_task("dialect-translation-mini").load()["test"][0]
    texts = [row["text"], "게 🙂 Seoul 12:30", "가 나 다 라 마 바 사", "끝"]

    def said(by):
        return [answer["text"] for answer in translator(texts, "standard", row["source"], by)]

    assert said(None) == said("vote")
    rules = dict(zip(texts, said("rules"), strict=True))
    for sign in (1, -1):

        def chance(self, words, start, end, made, sign=sign):
            cut = pieces(words, rules[" ".join(words)].split(), translator.rewriter.words)
            (own,) = (" ".join(meant) for first, _, meant in cut if first == start)
            return sign * 1e9 * (made == own)

        monkeypatch.setattr(Rules, "chance", chance)
        assert (said("vote") == [*rules.values()]) == (sign == 1)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    options = FAST | {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "no",
                      "load_best_model_at_end": False, "keep_checkpoints": True}  # fmt: skip
    train(RECIPE, tmp_path / "whole", options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoint-6", "predictions*"))
    train(RECIPE, tmp_path / "cut", options)
    whole, cut = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("whole", "cut"))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True))


@pytest.mark.parametrize("heads", [2, 4, 6])
def test_a_model_copies_before_it_has_learned_anything(heads):
    sizes = {"d_model": 32 * heads, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 64}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    options = Seq2Seq(config=sizes | {"encoder_attention_heads": heads, "decoder_attention_heads": heads})
    text = "밥 묵자 가나다라 마바사아 자차카타"
    torch.manual_seed(0)
    model, tokenizer = make_model(options, ["standard"], {"text": [text], "target": [text]})
    prompt, labels = (torch.tensor([tokenizer(one)["input_ids"]]) for one in (f"<standard>{text}", text))
    logits = model.eval()(input_ids=prompt, labels=labels).logits
    assert tokenizer.decode(logits[0].argmax(-1), skip_special_tokens=True) == text


@pytest.mark.parametrize("tokens", ["syllable", "jamo", "byte"])
def test_tokens_give_the_text_back(tokens):
    tokenizer = make_tokenizer(["집이 가게 ᄀᆞ치"], tokens, ["<jeju>"])
    ids = tokenizer("<jeju>가게 ᄀᆞ치|집이")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert unicodedata.normalize("NFC", tokenizer.decode(ids, skip_special_tokens=True)) == "가게 ᄀᆞ치|집이"


def test_pieces_end_where_both_sides_have_a_word():
    cut = list(pieces(["나", "집에", "가는겨", "오늘"], ["나", "집에", "가는", "거야", "오늘"], 2))
    assert cut == [(0, 2, ["나", "집에"]), (2, 4, ["가는", "거야", "오늘"])]
    assert list(pieces(["가게", "이"], ["가자"], 0)) == [(0, 2, ["가자"])]
    assert list(pieces(["가게"], ["가게", "마씸"], 1)) == [(0, 1, ["가게", "마씸"])]
    assert list(pieces(["나", "가게", "이"], ["나", "가자"], 2)) == [(0, 3, ["나", "가자"])]
    assert prompt_of(["가", "나"], 0, 2, "jeju") == "<jeju>가 나"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"translation.word": 3}, "translation has no option 'word'. Did you mean 'words'"),
        ({"translation.tokens": "piece"}, "tokens 'piece' is not one of syllable, jamo, byte"),
        ({"ema": 0.9}, "'ema' is for classifiers; task 'dialect-translation-mini' translates"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, message, tmp_path):
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        train(RECIPE, tmp_path / "run", FAST | options)


def test_options_have_defaults():
    assert Seq2Seq.of(None).base == "bart"
