"""`hfk push` and `hfk pull`: a checkpoint folder to the Hub and back, at a commit that can be pinned.

What may be sent is a list of what a checkpoint is made of; everything else stays here and is named: training
checkpoints, pickles, predictions on the user's rows, caches. Remote code is only what `auto_map` and
`custom_pipelines` lead to. `pull` looks at the configuration before it fetches the rest, loads nothing, and makes the
folder appear when it is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError, safe_open

from ..inference.remote_code import check_remote_code, code_files
from ..models.configuration_ensemble import MultiHeadEnsembleConfig
from ..models.configuration_multihead import MultiHeadConfig
from ..runs.card import build_card, recipe_yaml, write_card
from . import endpoint_handler
from .commits import PlannedFile, Pushed, Target, check_repo_id, clear_errors, commit

CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
TOKENIZER = (
    "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
RECORDS = ("task.json", "recipe.yaml", "training_log.json", "metrics.json", "LICENSE", "LICENSE.txt", "NOTICE")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
PULLED = (
    *CONFIGS, WHOLE, INDEX, "model-*-of-*.safetensors", *TOKENIZER, *RECORDS, "*.py", "README.md",
    *(f"processor_[0-9]*/{name}" for name in (*CONFIGS, *TOKENIZER)), *(f"report/*{suffix}" for suffix in PICTURES),
)  # fmt: skip
_LINK = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img[^>]+src=[\"']([^\"']+)")


@dataclass(frozen=True)
class Plan:
    """What a push of a checkpoint would send.

    Args:
        files: what is sent.
        left_out: path → why it stays here; folders end in a slash.
    """

    files: list[PlannedFile]
    left_out: dict[str, str]


def push(checkpoint: str | Path, target: Target, api: HfApi | None = None) -> Pushed:
    """Send a checkpoint folder to the Hub as one commit.

    Args:
        checkpoint: folder of a finished run, or any saved multi-head checkpoint; without a README.md, its model card
            is written there first.
        target: where to.
        api: the client; one with the saved token by default.

    Returns:
        the commit, to be pinned as `revision`.

    Raises:
        ValueError: if the folder is not a whole checkpoint, or for what `commit` refuses.
        ConnectionError: if the Hub can't be reached, or fails.

    Example:
        >>> push("runs/ynat", Target("owner/ynat", private=True)).sha  # doctest: +SKIP
    """
    return commit(target, plan_push(checkpoint, target.repo_id).files, stale=WEIGHTS, api=api)


def plan_push(checkpoint: str | Path, repo_id: str) -> Plan:
    """Check a checkpoint folder and list what of it would be sent; nothing is.

    Args:
        checkpoint: as for `push`; its model card is written if it has none.
        repo_id: `owner/name`, for the card.

    Raises:
        ValueError: if the folder is not a whole multi-head checkpoint; the sentence names the file.
    """
    folder = Path(checkpoint)
    check_repo_id(repo_id)
    names = check_checkpoint(folder, repo_id)
    card = folder / "README.md"
    # A card that nobody has edited is written again with the repository's name.
    if not card.is_file() or card.read_text(encoding="utf-8") == str(build_card(folder)):
        write_card(folder, repo_id)
    names |= {"README.md", *_card_pictures(folder)}
    names |= {name for name in ("handler.py", *RECORDS) if (folder / name).is_file()}
    files = {name: PlannedFile(name, folder / name) for name in names}
    if "handler.py" not in files:
        files["handler.py"] = PlannedFile("handler.py", Path(endpoint_handler.__file__))
    if "recipe.yaml" in files:
        files["recipe.yaml"] = PlannedFile("recipe.yaml", _public_recipe(folder / "recipe.yaml"))
    if "metrics.json" not in files and (folder / "report" / "metrics.json").is_file():
        files["metrics.json"] = PlannedFile("metrics.json", folder / "report" / "metrics.json")
    return Plan([files[name] for name in sorted(files)], _left_out(folder, files))


def check_checkpoint(folder: Path, source: str, allow_foreign_code: bool = False) -> set[str]:
    """Check that a folder is a whole multi-head checkpoint that can be used without hfk; nothing is loaded.

    Args:
        folder: the checkpoint.
        source: how errors call its code's origin; see `check_remote_code`.
        allow_foreign_code: as for `check_remote_code`.

    Returns:
        the names of its files: weights, configuration, processor and code.

    Raises:
        ValueError: naming what is missing, damaged or foreign.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give that of a checkpoint, such as runs/ynat.")
    config = _read_json(folder / "config.json", "so it is not a checkpoint")
    if config.get("model_type") not in (MultiHeadConfig.model_type, MultiHeadEnsembleConfig.model_type):
        raise ValueError(f"{folder} is a checkpoint of type {config.get('model_type')!r}, not a multi-head one.")
    processor = _read_json(folder / "processor_config.json", "so nobody could prepare input for it; save the processor")
    if config.get("text_config") and not (folder / "tokenizer_config.json").is_file():
        raise ValueError(f"{folder} has no tokenizer_config.json, but reads text: save the processor into it again.")
    # An ensemble's further processors, each in a folder of its own.
    own = [path for path in folder.glob("processor_[0-9]*/*") if path.name in (*CONFIGS, *TOKENIZER)]
    further = {path.relative_to(folder).as_posix() for path in own}
    names = [*CONFIGS, *(name for name in further if name.endswith(CONFIGS))]
    configs = {name: _read_json(folder / name) for name in names if (folder / name).is_file()}
    for found in configs.values():
        check_remote_code(found, source, allow_foreign_code)
    if not config.get("auto_map") or not config.get("custom_pipelines") or not processor.get("auto_map"):
        raise ValueError(
            f"{folder} was saved without its code (auto_map, custom_pipelines): load it with hfk imported and save "
            "model and processor again."
        )
    code = set() if allow_foreign_code else code_files(folder, *configs.values())
    tokenizer = {name for name in TOKENIZER if (folder / name).is_file()}
    return {*configs, *code, *tokenizer, *further, *_weight_files(folder)}


def pull(
    repo_id: str,
    output_dir: str | Path,
    revision: str | None = None,
    allow_foreign_code: bool = False,
    api: HfApi | None = None,
) -> str:
    """Fetch a checkpoint from the Hub into a folder, at one commit.

    The files come into `OUTPUT_DIR.part` first, where an interrupted download goes on; the folder itself appears whole.

    Args:
        repo_id: `owner/name`.
        output_dir: folder to make; it must not exist, or be empty.
        revision: commit, tag or branch; `main` by default. Pin a commit where it matters.
        allow_foreign_code: let a configuration pass that would run code from elsewhere; see `check_remote_code`.
        api: the client; one with the saved token by default.

    Returns:
        the commit that was fetched.

    Raises:
        ValueError: if there is no such checkpoint, it may not be read, has pickled weights only, or would run code from
            elsewhere.
        ConnectionError: if the Hub can't be reached, or fails.
    """
    check_repo_id(repo_id)
    target, api = Path(output_dir), api or HfApi()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty: choose another --output-dir.")
    part = target.with_name(f"{target.name}.part")
    with clear_errors(api, repo_id):
        info = api.repo_info(repo_id, revision=revision)
        names = [sibling.rfilename for sibling in info.siblings or []]
        _check_listing(repo_id, names)
        for name in names:
            if name in CONFIGS or (name.startswith("processor_") and name.endswith(CONFIGS)):
                path = Path(api.hf_hub_download(repo_id, name, revision=info.sha))
                check_remote_code(_read_json(path), repo_id, allow_foreign_code)
        wanted = list(filter_repo_objects(names, allow_patterns=list(PULLED)))
        api.snapshot_download(repo_id, revision=info.sha, local_dir=part, allow_patterns=wanted)
    for path in sorted(part.rglob("*"), reverse=True):  # what an older, interrupted pull of another commit left
        if path.is_file() and path.relative_to(part).as_posix() not in wanted and ".cache" not in path.parts:
            path.unlink()
    check_checkpoint(part, repo_id, allow_foreign_code)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    if target.exists():
        target.rmdir()
    os.replace(part, target)
    return info.sha


def _check_listing(repo_id: str, names: list[str]) -> None:
    if "config.json" not in names:
        raise ValueError(f"{repo_id} has no config.json, so it is not a checkpoint.")
    if WHOLE in names or INDEX in names:
        return
    pickled = next((name for name in names if name.endswith(PICKLES)), None)
    if pickled:
        raise ValueError(
            f"{repo_id} has its weights as a pickle only ({pickled}), which could run any code when it is read: ask "
            "its owner for safetensors."
        )
    raise ValueError(f"{repo_id} has no weights ({WHOLE}).")


def _weight_files(folder: Path) -> set[str]:
    """Find the weights, and open every file of them: a cut-off one is refused by its header."""
    names = {WHOLE}
    if not (folder / WHOLE).is_file():
        if not (folder / INDEX).is_file():
            pickled = next((path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES), None)
            instead = f", only the pickle {pickled}; load it where you trust it and save it again" if pickled else ""
            raise ValueError(f"{folder} has no {WHOLE}{instead}.")
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(WEIGHTS.fullmatch(str(name)) for name in shards.values()):
            raise ValueError(f"{folder / INDEX} is damaged: it names no shards; save the checkpoint again.")
        names = set(shards.values())
    for name in sorted(names):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not whole: the shard {name} is missing; save or copy it again.")
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{folder / name} is damaged ({error}): save or copy it again.") from None
    return names if names == {WHOLE} else {*names, INDEX}


def _card_pictures(folder: Path) -> set[str]:
    """List the pictures of the folder that its card shows."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    try:
        front = ModelCard(text, ignore_metadata_errors=True).data.to_dict()
    except (yaml.YAMLError, ValueError):
        front = {}
    if not front:
        raise ValueError(f"{folder / 'README.md'} has no front matter in YAML: take it away to have it written anew.")
    shown = set()
    for link in (first or second for first, second in _LINK.findall(text)):
        if "://" in link or link.startswith(("data:", "#")):
            continue
        path = (folder / link).resolve()
        if not path.is_relative_to(folder.resolve()) or path.suffix.lower() not in PICTURES or not path.is_file():
            raise ValueError(
                f"README.md shows {link}, which is no picture in {folder}: put it there, or mend the card."
            )
        shown.add(path.relative_to(folder.resolve()).as_posix())
    return shown


def _public_recipe(path: Path) -> bytes:
    """Return the recipe without tokens and local paths."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError:
        recipe = None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} is damaged: it is no YAML of options; copy it again.")
    return recipe_yaml(recipe).encode()


def _left_out(folder: Path, sent: dict[str, PlannedFile]) -> dict[str, str]:
    reasons = {}
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.is_dir():
            kept = [f"{name}/{file.name}" for file in sorted(path.iterdir()) if f"{name}/{file.name}" not in sent]
            if name.startswith("checkpoint-"):
                reasons[f"{name}/"] = "holds the state of training"
            elif not any(file.startswith(f"{name}/") for file in sent):
                reasons[f"{name}/"] = "no part of a checkpoint"
            else:
                reasons |= dict.fromkeys(kept, "the card does not show it")
        elif name not in sent:
            pickled = path.suffix in PICKLES
            reasons[name] = "a pickle could run any code when it is read" if pickled else "no part of a checkpoint"
    if "metrics.json" in sent:
        reasons.pop("report/metrics.json", None)
    return reasons


def _read_json(path: Path, without: str = "") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"the folder {path.parent} has no {path.name}, {without}.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object; save or copy it again.")
    return content
