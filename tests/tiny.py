"""Tiny encoders, tokenizer and heads for tests: every family that hfk promises to take, a few thousand weights each."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import transformers as hf
import yaml
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hfk import HeadConfig, MultiHeadConfig, MultiHeadForClassification, MultiHeadProcessor
from hfk.models.modeling_cnn import CNNConfig, MLPConfig
from hfk.models.modeling_efficientnet_lite import EfficientNetLiteConfig
from hfk.models.modeling_morphemes import MorphemesConfig
from hfk.models.modeling_ngram import NGramConfig
from hfk.models.modeling_recurrent import RecurrentConfig
from hfk.models.modeling_side_by_side import SideBySideConfig, SideBySideVisionConfig
from hfk.models.modeling_textcnn import TextCNNConfig

SENTENCES = [
    "해 뜨는 모습이 아름다운 동해의 바닷가",
    "직접 담근 장으로 끓인 된장찌개가 이름난 한식당",
    "울창한 소나무 숲길을 따라 걷는 산책로",
    "조선 시대에 지어진 오래된 절과 석탑",
    "아이들과 함께 뛰노는 놀이공원과 물놀이장",
    "KTX 역에서 5분 거리의 2층 카페",
]
VOCABULARY_SIZE = 200

_text = {"vocab_size": VOCABULARY_SIZE, "max_position_embeddings": 64, "pad_token_id": 0}
_bert = _text | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {
    "bert": lambda: hf.BertConfig(**_bert),
    "roberta": lambda: hf.RobertaConfig(**_bert),
    "xlm-roberta": lambda: hf.XLMRobertaConfig(**_bert),
    "electra": lambda: hf.ElectraConfig(**_bert, embedding_size=16),
    "albert": lambda: hf.AlbertConfig(**_bert, embedding_size=16),
    "distilbert": lambda: hf.DistilBertConfig(**_text, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "deberta-v2": lambda: hf.DebertaV2Config(**_bert, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": lambda: hf.ModernBertConfig(
        **_bert, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, reference_compile=False
    ),
    "clip-text": lambda: hf.CLIPTextConfig(**_bert, bos_token_id=2, eos_token_id=3),
    "morphemes": lambda: MorphemesConfig(
        vocab_size=VOCABULARY_SIZE,
        num_trained=150,
        embedding_size=8,
        num_filters=8,
        deep_size=16,
        ngrams={"num_buckets": 512, "embedding_size": 8},
        dropout=0.0,
        word_dropout=0.0,
    ),
    "siglip2-text": lambda: hf.Siglip2TextConfig(
        **{name: value for name, value in _bert.items() if name != "pad_token_id"}, projection_size=32
    ),
    "t5": lambda: hf.T5Config(
        vocab_size=VOCABULARY_SIZE, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, dropout_rate=0.0
    ),
    "ngram": lambda: NGramConfig(
        vocab_size=VOCABULARY_SIZE,
        num_buckets=512,
        word_ngrams=2,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        hidden_dropout=0.0,
    ),
    "recurrent": lambda: RecurrentConfig(
        vocab_size=VOCABULARY_SIZE, embedding_size=8, hidden_size=16, num_hidden_layers=2, dropout=0.0
    ),
    "side-by-side": lambda: SideBySideConfig(
        encoder=hf.BertConfig(**_bert), ngrams={"num_buckets": 512, "embedding_size": 8}
    ),
    "textcnn": lambda: TextCNNConfig(
        vocab_size=VOCABULARY_SIZE, embedding_size=8, windows=[3, 4], num_filters=8, dropout=0.0
    ),
}
VISION = {
    "vit": lambda: hf.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8
    ),
    "resnet": lambda: hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "convnext": lambda: hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    "mobilevit": lambda: hf.MobileViTConfig(
        image_size=32, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 40], num_attention_heads=2
    ),
    "swin": lambda: hf.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, drop_path_rate=0.0
    ),
    "efficientnet": lambda: hf.EfficientNetConfig(
        image_size=32,
        width_coefficient=0.25,
        kernel_sizes=[3, 3],
        in_channels=[32, 16],
        out_channels=[16, 24],
        strides=[1, 2],
        num_block_repeats=[1, 1],
        expand_ratios=[1, 2],
        depthwise_padding=[],
        hidden_dim=320,
    ),
    "efficientnet-lite": lambda: EfficientNetLiteConfig(
        stem_width=8,
        stage_widths=[8, 16],
        stage_repeats=[1, 1],
        stage_kernels=[3, 3],
        stage_strides=[1, 2],
        stage_expansions=[1, 2],
        hidden_size=16,
        image_size=32,
    ),
    "cnn": lambda: CNNConfig(image_size=32, hidden_sizes=[8, 16]),
    "side-by-side-vision": lambda: SideBySideVisionConfig(
        encoders=[VISION["efficientnet-lite"](), VISION["vit"]()],
        sizes=[16, 32],
        means=[[0.5] * 3, [0.4, 0.5, 0.6]],
        deviations=[[0.5] * 3, [0.2] * 3],
    ),
    "mlp": lambda: MLPConfig(image_size=32, hidden_sizes=[16, 8], dropout=0.0),
    "clip-vision": lambda: hf.CLIPVisionConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8
    ),
    "dinov2": lambda: hf.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    ),
}


def heads(**options) -> list[HeadConfig]:
    """One head of every problem, two of them a hierarchy; `options` go to the classification heads."""
    return [
        HeadConfig("cat1", ["자연", "음식"], **options),
        HeadConfig("cat2", ["산", "바다", "한식"], parent="cat1", parent_of=[0, 0, 1], **options),
        HeadConfig("tags", ["일출", "가족", "야경"], problem="multi_label", **options),
        HeadConfig("price", problem="regression", mean=5.0, std=2.0),
    ]


def model(text: str | None = "bert", vision: str | None = None, **options) -> MultiHeadForClassification:
    """A tiny model in evaluation mode; `options` go to MultiHeadConfig."""
    options.setdefault("heads", heads())
    config = MultiHeadConfig(
        text_config=TEXT[text]() if text else None, vision_config=VISION[vision]() if vision else None, **options
    )
    return MultiHeadForClassification(config).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of the sentences' words and letters; written out, as training one breaks ties by chance."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    letters = sorted({word[0] for word in words} | {f"##{letter}" for word in words for letter in word[1:]})
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    assert len(vocabulary) <= VOCABULARY_SIZE
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.NFC(), pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def save_encoders(folder: Path) -> dict[str, str]:
    """Save a text and a vision encoder without dropout; returns the recipe options that name them."""
    for name, config in (("text", TEXT["bert"]()), ("vision", VISION["vit"]())):
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        hf.AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder / name)
    tokenizer().save_pretrained(folder / "text")
    processor(None, "vit").image_processor.save_pretrained(folder / "vision")
    return {"text_encoder": str(folder / "text"), "vision_encoder": str(folder / "vision")}


PLACES = [("자연", "산", 2), ("자연", "바다", 0), ("음식", "한식", 1)]  # cat1, cat2, its sentence
COLORS = {"일출": (250, 120, 40), "가족": (60, 200, 90), "야경": (20, 20, 90)}


def write_task(folder: Path, rows: int = 72, **keys) -> Path:
    """Write places.csv with drawn pictures and task.yaml: the text tells cat1 and cat2, the picture tells the tags.

    Of every 18 rows, 12 are for training and 3 each for validation and test; `keys` replace those of the YAML, None
    takes one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    with open(folder / "places.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["no", "overview", "photo", "cat1", "cat2", "tags", "price", "part"])
        for row in range(rows):
            kind, tag = row % 3, list(COLORS)[row // 3 % 3]
            cat1, cat2, sentence = PLACES[kind]
            words = SENTENCES[sentence].split()
            pixels = np.clip(generator.normal(COLORS[tag], 20, (24, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{row:03}.png")
            part = ["train", "train", "validation", "train", "train", "test"][row // 3 % 6]
            text = " ".join(words[row % 2 :]) + " " + SENTENCES[3 + row % 3].split()[row % 4]
            tags = tag if row % 5 else f"{tag},가족" if tag != "가족" else tag
            writer.writerow([f"{row:03}", text, f"{row:03}.png", cat1, cat2, tags, kind * 2 + row % 2, part])
    task = {
        "data": "places.csv",
        "text": "overview",
        "image": "photo",
        "id": "no",
        "heads": [
            {"name": "cat1"},
            {"name": "cat2", "parent": "cat1"},
            {"name": "tags", "problem": "multi_label", "separator": ","},
            {"name": "price", "problem": "regression"},
        ],
        "split": {"column": "part"},
    }
    path = folder / "task.yaml"
    task = {key: value for key, value in (task | keys).items() if value is not None}
    path.write_text(yaml.safe_dump(task, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


RECIPE = {
    "max_length": 32,
    "fusion_layers": 1,
    "fusion_dropout": 0.0,
    "head_dropout": 0.0,
    "modality_dropout": 0.0,
    "learning_rate": 2e-3,
    "head_learning_rate": 5e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3,
    "bf16": False,
    "text_prefix": "",
    "disable_tqdm": True,
    "logging_steps": 1,
}
"""Options of a recipe that trains in a second, the same way whatever the batches' shape."""


def without_script(page: str) -> str:
    """A page less the one script that hfk's own pages have."""
    from hfk.evaluation.pages import TEMPLATES

    own = f"<script>\n{(TEMPLATES / 'base.js').read_text(encoding='utf-8').rstrip()}</script>\n"
    assert page.count(own) == 1
    return page.replace(own, "")


def processor(text: str | None = "bert", vision: str | None = None, **options) -> MultiHeadProcessor:
    """The processor that fits `model(text, vision)`: 32-pixel pictures."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    image_processor = ViTImageProcessorPil(size={"height": 32, "width": 32}) if vision else None
    return MultiHeadProcessor(image_processor, tokenizer() if text else None, **({"max_length": 32} | options))
