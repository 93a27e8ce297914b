"""Make the Space's small checkpoints: spaces/studio/checkpoints/{headlines,tour-tiny,tour-tiny-text}.

`headlines` learns from the real titles of KLUE's YNAT, which `--titles` gives; without them it is left as it is. Its
vocabulary is Kiwi's, so no title's words travel with it, and its card names license and source.

For the others stock transformers encoders, two BERT layers and a three-stage ResNet, start from random weights and are
trained through `hfk.train` on the embedded samples, so the Space answers at once on a fresh machine, without network.
They show what the page does; the samples are written by a script, and so is what these models know.

The tokenizer's pieces are counted here instead of by `tokenizers`' trainers, which break ties by chance: the same
command then gives the same vocabulary. Hangul is split into its letters (NFD), so that no syllable is unknown.

Run: python scripts/make_space_checkpoints.py [--only NAME] [--output-dir FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ResNetConfig, ResNetModel, set_seed
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hfk import train
from hfk.tasks import load_task

FOLDER = Path(__file__).parent.parent / "spaces" / "studio" / "checkpoints"
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
HEADLINES = {
    "base": "ynat-morphemes-small",
    # The figure on the page is that of the test rows, by which nothing was chosen.
    "split": {"validation": 0.05, "test": 0.1, "seed": 42},
    "license": "cc-by-sa-4.0",
    "disable_tqdm": True,
}
SOURCE = """
## Source

Learned from the news titles of KLUE's YNAT (Park et al. 2021, arXiv:2105.09680; CC BY-SA 4.0), of which it keeps no
text. The vocabulary and the first vectors of its pieces are those of Kiwi's language model (the package
kiwipiepy_model, Apache-2.0).
"""


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
            if path.suffix == ".png":  # a chart has few colours: a palette takes a third of the bytes
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=FOLDER)
    parser.add_argument("--only", choices=["headlines", *RECIPES])
    parser.add_argument("--titles", type=Path, help="YNAT's train.csv, for `headlines`")
    options = parser.parse_args()
    if options.titles is not None and options.only in (None, "headlines"):
        with tempfile.TemporaryDirectory() as scratch:
            run, target = Path(scratch) / "run", options.output_dir / "headlines"
            train(HEADLINES, run, {"data": str(options.titles)})
            keep(run, target)
            card = (run / "README.md").read_text(encoding="utf-8")
            (target / "README.md").write_text(card.replace(str(options.titles), "train.csv") + SOURCE, encoding="utf-8")
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
