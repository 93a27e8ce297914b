"""`hfk push` and `hfk pull`: a checkpoint folder to the Hub and back; and the one commit that every push of hfk is.

Checkpoints, data sets' cards, Spaces and metrics all go through `commit`: large files are uploaded first and nothing
points to them until the commit, which is built on the revision that was looked at. So a push that breaks off, or that
another push overtakes, leaves what is served as it was. What may be sent is a list of what a checkpoint is made of;
everything else stays here and is named. `pull` looks at the configuration before it fetches the rest, loads nothing,
and makes the folder appear when it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_session
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects, hf_raise_for_status, validate_repo_id

from ..files import write_atomic
from ..inference.remote_code import code_files
from ..inference.translator import is_translator
from ..models.checked_files import ADAPTER, CONFIGS, INDEX, PICKLES, WHOLE, check_configs, check_weights, shards
from ..models.configuration_ensemble import MultiHeadEnsembleConfig
from ..models.configuration_multihead import MultiHeadConfig
from ..models.dialect_translator import RULES_FILE
from ..runs.card import benchmark_results, build_card, recipe_yaml, write_card
from ..runs.run import Run
from . import endpoint_handler

WEIGHTS = (WHOLE, INDEX, "model-*-of-*.safetensors")
LAST_CHECKPOINT = "last-checkpoint"
"""The folder in a repository that `hub_strategy: checkpoint` keeps the newest checkpoint in."""
STALE = (*WEIGHTS, ADAPTER, "adapter_model.safetensors", "adapter/*", ".eval_results/hfk-*", f"{LAST_CHECKPOINT}/*")
"""What a push takes away if it does not bring it: beside an adapter's configuration, merged weights can't be loaded."""
TOKENIZER = (
    "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
RECORDS = (
    RULES_FILE,
    "task.json",
    "recipe.yaml",
    "training_log.json",
    "metrics.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
PULLED = (
    *CONFIGS, *WEIGHTS, *TOKENIZER, *RECORDS, "*.py", "README.md",
    *(f"processor_[0-9]*/{name}" for name in (*CONFIGS, *TOKENIZER)), *(f"report/*{suffix}" for suffix in PICTURES),
)  # fmt: skip
_SECRETS = {
    "a Hub token (hf_…)": rb"\bhf_[A-Za-z0-9]{30,}\b",
    "a GitHub token": rb"\b(?:gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "an AWS key": rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "an OpenAI or Anthropic key": rb"\bsk-(?:(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{40,}|[A-Za-z0-9]{32,})",
    "a Google key": rb"\bAIza[A-Za-z0-9_-]{35}",
    "a Slack token": rb"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a GitLab token": rb"\bglpat-[A-Za-z0-9_-]{20,}",
    "a PyPI token": rb"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>]+:[^\s/:@\"'<>]{6,}@[\w.-]+",
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
}
"""What no file of a push may hold, in words → how it is known."""
_FULL_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LINK = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img[^>]+src=[\"']([^\"']+)")

Files = dict[str, Path | bytes]
"""Path in the repository → the file here, or the content itself."""


@dataclass(frozen=True)
class Plan:
    """What a push would send, and why the rest stays here; folders end in a slash. `str` is the table of a dry run."""

    files: Files
    left_out: dict[str, str]

    def __str__(self) -> str:
        sizes = {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}
        width = max(map(len, sizes), default=0)
        lines = [f"{name:{width}}  {size:>13,}" for name, size in sizes.items()]
        lines.append(f"{len(sizes)} files, {sum(sizes.values()):,} bytes")
        lines += ["left out:"] * bool(self.left_out)
        return "\n".join([*lines, *(f"  {path}: {reason}" for path, reason in self.left_out.items())])


@dataclass(frozen=True)
class Target:
    """Where a push goes; a ValueError if that can't be."""

    repo_id: str  # owner/name
    private: bool | None = None  # a new repository; None is the owner's default. An existing one must agree.
    revision: str | None = None  # branch to commit to, made if it is not there; main by default
    create_pr: bool = False  # open a pull request against main instead
    message: str | None = None  # of the commit

    def __post_init__(self) -> None:
        check_repo_id(self.repo_id)
        if self.create_pr and self.revision not in (None, "main"):
            raise ValueError("a pull request is opened against main: leave --revision or --create-pr out.")


@dataclass(frozen=True)
class Pushed:
    """What a push made: where, the page of the commit or pull request, and the commit, to be pinned as `revision`."""

    repo_id: str
    url: str
    sha: str


def check_repo_id(repo_id: str) -> None:
    """Raise ValueError unless `repo_id` is an `owner/name` that the Hub would take."""
    with suppress(HFValidationError):
        validate_repo_id(repo_id)
        if _FULL_ID.fullmatch(repo_id):
            return
    raise ValueError(
        f"{repo_id!r} is no repository's id: write owner/name, with letters, digits, '-', '_' and '.' only."
    )


def commit(
    target: Target,
    files: Files,
    repo_type: str = "model",
    stale: Sequence[str] = (),
    space_sdk: str | None = None,
    api: HfApi | None = None,
) -> Pushed:
    """Send files as one commit; the repository and the branch are made if they are not there.

    Files that match `stale` and are not among `files` are deleted in the same commit: what is left of an older push
    must not be loaded together with this one. Whatever the user can mend (login, permissions, visibility, the card,
    another push meanwhile) is a ValueError; a Hub that can't be reached, or fails, a ConnectionError.
    """
    for name, file in files.items():
        content = b"" if name.endswith((".safetensors", *PICTURES)) and not name.endswith(".svg") else _content(file)
        for what, known in _SECRETS.items():
            if re.search(known, content):
                raise ValueError(
                    f"{name} holds what looks like {what}: take it out, and revoke it if it was ever sent anywhere."
                )
    api = api or HfApi()
    with clear_errors(api, target.repo_id, write=True):
        validate_card(api, _content(files["README.md"]).decode(), repo_type)
        sha, there = open_repository(api, target, repo_type, space_sdk)
        old = filter_repo_objects(set(there) - set(files), allow_patterns=list(stale))
        made = api.create_commit(
            target.repo_id,
            [*(CommitOperationAdd(*item) for item in files.items()), *map(CommitOperationDelete, sorted(old))],
            commit_message=target.message or f"Push {len(files)} files with hfk",
            repo_type=repo_type,
            revision=target.revision,
            create_pr=target.create_pr,
            parent_commit=sha,
        )
    return Pushed(target.repo_id, made.pr_url or made.commit_url, made.oid)


def _content(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def validate_card(api: HfApi, card: str, repo_type: str) -> None:
    """Have the Hub check a card's front matter, before a repository is made that would stay empty."""
    # `create_commit` checks it too, but needs the repository; `RepoCard.validate` knows the default address only.
    body = {"repoType": repo_type, "content": card}
    response = get_session().post(f"{api.endpoint}/api/validate-yaml", json=body)
    if response.status_code == 400:
        said = "; ".join(error.get("message", "") for error in response.json().get("errors", []))
        raise ValueError(f"README.md: the Hub refuses its front matter: {' '.join(said.split())}")
    hf_raise_for_status(response)


def open_repository(api: HfApi, target: Target, repo_type: str, space_sdk: str | None = None) -> tuple[str, list[str]]:
    """Make repository and branch where they are not there; returns the commit to build on and its files' paths."""
    where = {"repo_id": target.repo_id, "repo_type": repo_type}
    api.create_repo(**where, private=target.private, space_sdk=space_sdk, exist_ok=True)
    info = api.repo_info(**where)
    if target.private is not None and bool(info.private) != target.private:
        is_now, asked = ("private", "public") if info.private else ("public", "private")
        raise ValueError(
            f"{target.repo_id} exists and is {is_now}, not {asked}: change its settings, or leave the option out."
        )
    if target.revision not in (None, "main"):
        api.create_branch(**where, branch=target.revision, exist_ok=True)
        info = api.repo_info(**where, revision=target.revision)
    return info.sha, [sibling.rfilename for sibling in info.siblings or []]


@contextmanager
def clear_errors(api: HfApi, repo_id: str, write: bool = False) -> Iterator[None]:
    """Make one sentence of what the client raises: ValueError if the user can mend it, else ConnectionError."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise ConnectionError(f"HF_HUB_OFFLINE is set, so {repo_id} can't be reached: unset it first.") from None
    except LocalTokenNotFoundError:
        raise ValueError(_log_in(repo_id)) from None
    except HfHubHTTPError as error:
        raise _explain(error, api, repo_id, write) from None
    except RuntimeError as error:  # how the client wraps whatever stops the upload of a large file
        if not isinstance(error.__cause__, httpx2.HTTPError | OSError):
            raise
        raise ConnectionError(
            f"{' '.join(str(error).split()).rstrip('.')}: what {repo_id} serves is as it was; try again."
        ) from None
    except httpx2.HTTPError as error:
        raise ConnectionError(
            f"the Hub at {api.endpoint} can't be reached ({type(error).__name__}): check the network, try again."
        ) from None


def _explain(error: HfHubHTTPError, api: HfApi, repo_id: str, write: bool) -> Exception:
    status = error.response.status_code
    said = " ".join((error.server_message or "").split()).rstrip(".")
    said = f" (the Hub says: {said})" if said else ""
    if isinstance(error, GatedRepoError):
        return ValueError(f"access to {repo_id} is restricted: log in and ask for it on {api.endpoint}/{repo_id}.")
    if isinstance(error, RevisionNotFoundError):
        return ValueError(f"{repo_id} has no such branch, tag or commit.")
    if isinstance(error, EntryNotFoundError):
        return ValueError(f"a file is missing from {repo_id}{said}.")
    if status == 401:
        if "authorization" not in error.response.request.headers:
            return ValueError(_log_in(repo_id))
        return ValueError(
            f"the Hub does not accept your token for {repo_id}: it may have expired; log in again with `hf auth login`."
        )
    if status == 403:
        needs = f"write to {repo_id}" if write else f"read {repo_id}"
        return ValueError(f"your token may not {needs}{said}: use one with that permission, or another owner's name.")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return ValueError(f"there is no {repo_id} that you may see: check the name, or log in if it is private.")
    if status in (409, 412):
        return ValueError(f"another push changed {repo_id} meanwhile, and this one changed nothing: try again.")
    if status == 429:
        return ConnectionError("the Hub asks to slow down (too many requests): wait some minutes and try again.")
    if status >= 500:
        return ConnectionError(f"the Hub failed with {status}{said}; what it serves is as it was: try again.")
    return ValueError(f"the Hub refused with {status}{said}.")


def _log_in(repo_id: str) -> str:
    return f"you are not logged in, which {repo_id} needs: run `hf auth login`, or set HF_TOKEN."


def push(checkpoint: str | Path, target: Target, api: HfApi | None = None, license: str | None = None) -> Pushed:
    """Send the folder of a run, or any multi-head checkpoint, to the Hub as one commit; errors as of `commit`.

    Args:
        checkpoint: the folder; without a README.md, its model card is written there first.
        target: where to.
        api: the client; one with the saved token by default.
        license: of the weights, by the Hub's name, for the card; what the card or the recipe says by default.

    Example:
        >>> push("runs/ynat", Target("owner/ynat", private=True)).sha  # doctest: +SKIP
    """
    return commit(target, plan_push(checkpoint, target.repo_id, license).files, stale=STALE, api=api)


def plan_push(checkpoint: str | Path, repo_id: str, license: str | None = None) -> Plan:
    """Check a checkpoint folder and list what of it would be sent; nothing is, but the model card is written."""
    folder = Path(checkpoint)
    check_repo_id(repo_id)
    names = check_checkpoint(folder, repo_id)
    card = folder / "README.md"
    # A card that nobody has edited is written again with the repository's name.
    if not card.is_file() or card.read_text(encoding="utf-8") == str(build_card(folder)):
        write_card(folder, repo_id, license)
    elif license is not None:
        edited = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True)
        edited.data.license = license
        write_atomic(card, str(edited))
    names |= {"README.md", *_card_pictures(folder)}
    names |= {name for name in ("handler.py", *RECORDS) if (folder / name).is_file()}
    for name in names:
        _refuse_link(folder, name)
    files: Files = {name: folder / name for name in names}
    if "processor_config.json" in files:  # a translator's endpoint is the stock one
        files.setdefault("handler.py", Path(endpoint_handler.__file__))
    if "recipe.yaml" in files:
        files["recipe.yaml"] = recipe_yaml(Run.open(folder).recipe).encode()
    if (folder / "report" / "metrics.json").is_file():
        files.setdefault("metrics.json", folder / "report" / "metrics.json")
        files |= {name: content.encode() for name, content in benchmark_results(folder).items()}
    return Plan(dict(sorted(files.items())), _left_out(folder, files))


def _refuse_link(folder: Path, name: str) -> None:
    """Refuse a file that is a link out of the folder, but those of the Hub's cache; ValueError."""
    real, inside = (folder / name).resolve(), folder.resolve()
    if not real.is_relative_to(inside) and real.parent != inside.parent.parent / "blobs":
        raise ValueError(f"{folder / name} is a link to {real}, outside of the checkpoint: put the file itself there.")


def check_checkpoint(folder: Path, source: str, allow_foreign_code: bool = False) -> set[str]:
    """Return the names of a multi-head checkpoint's files, or a ValueError that names what is missing or damaged.

    Nothing is loaded. `source` and `allow_foreign_code` are as for `check_remote_code`.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give that of a checkpoint, such as runs/ynat.")
    run = Run(folder)
    config, processor = run.read("config.json"), run.read("processor_config.json")
    if not config:
        raise ValueError(f"the folder {folder} has no config.json, so it is not a checkpoint.")
    if is_translator(config):
        rules = Run(folder).read(RULES_FILE)
        if not rules or not (folder / "tokenizer_config.json").is_file():
            raise ValueError(f"{folder} lacks its rules or its tokenizer: copy or train the translator again.")
        configs = _read_configs(folder, source, allow_foreign_code)
        code = set() if allow_foreign_code else code_files(folder, config)
        return {*configs, *code, RULES_FILE, *_names(folder, TOKENIZER), *_weight_files(folder)}
    if config.get("model_type") not in (MultiHeadConfig.model_type, MultiHeadEnsembleConfig.model_type):
        raise ValueError(f"{folder} is a checkpoint of type {config.get('model_type')!r}, not a multi-head one.")
    if not processor:
        raise ValueError(f"{folder} has no processor_config.json: nobody could prepare input for it.")
    if config.get("text_config") and not (processor.get("encoder") or (folder / "tokenizer_config.json").is_file()):
        raise ValueError(f"{folder} has no tokenizer_config.json, but reads text: save the processor into it again.")
    configs = _read_configs(folder, source, allow_foreign_code)
    if not config.get("auto_map") or not config.get("custom_pipelines") or not processor.get("auto_map"):
        raise ValueError(
            f"{folder} was saved without its code (auto_map, custom_pipelines): load it with hfk imported and save "
            "model and processor again."
        )
    code = set() if allow_foreign_code else code_files(folder, *configs.values())
    tokenizers = _names(folder, TOKENIZER) | _names(folder, TOKENIZER, "processor_[0-9]*/")
    return {*configs, *code, *tokenizers, *_weight_files(folder)}


def _read_configs(folder: Path, source: str, allow_foreign_code: bool) -> dict[str, dict[str, Any]]:
    """Read the configurations, those of an ensemble's further processors too, that `check_configs` lets pass."""
    for below in ("", *sorted(path.name for path in folder.glob("processor_[0-9]*"))):
        check_configs(folder, allow_foreign_code, source, subfolder=below)
    names = _names(folder, CONFIGS) | _names(folder, CONFIGS, "processor_[0-9]*/")
    return {name: Run(folder).read(name) for name in sorted(names)}


def _names(folder: Path, names: Sequence[str], below: str = "") -> set[str]:
    found = (path for name in names for path in folder.glob(f"{below}{name}"))
    return {path.relative_to(folder).as_posix() for path in found}


def pull(
    repo_id: str,
    output_dir: str | Path,
    revision: str | None = None,
    allow_foreign_code: bool = False,
    api: HfApi | None = None,
) -> str:
    """Fetch a checkpoint from the Hub into a new or empty folder, at one commit, which is returned.

    The files come into a folder beside it first, where an interrupted download goes on. A checkpoint that is not there,
    may not be read, is pickled, or would run code from elsewhere (see `check_remote_code`) is a ValueError.
    """
    check_repo_id(repo_id)
    target, api = Path(output_dir), api or HfApi()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty: choose another --output-dir.")
    with clear_errors(api, repo_id):
        info = api.repo_info(repo_id, revision=revision)
        names = {sibling.rfilename for sibling in info.siblings or []}
        if any({"..", ""} & {*name.split("/")} or "\\" in name for name in names):
            raise ValueError(f"{repo_id} has a file whose name leads out of its folder; it is not fetched.")
        if "config.json" not in names:
            raise ValueError(f"{repo_id} has no config.json, so it is not a checkpoint.")
        if ADAPTER in names:
            raise ValueError(
                f"{repo_id} has an {ADAPTER}, which would put other weights in the place of its own: ask its owner to "
                "merge the adapter."
            )
        if not names & {WHOLE, INDEX}:
            pickled = [name for name in sorted(names) if name.endswith(PICKLES)]
            instead = f", only the pickle {pickled[0]}, which could run any code when it is read" if pickled else ""
            raise ValueError(f"{repo_id} has no {WHOLE}{instead}: ask its owner for safetensors.")
        part = target.with_name(f"{target.name}.{info.sha[:12]}.part")
        where = {"revision": info.sha, "local_dir": part}
        configs = [*CONFIGS, *(f"processor_[0-9]*/{name}" for name in CONFIGS)]
        api.snapshot_download(repo_id, **where, allow_patterns=configs)
        _read_configs(part, repo_id, allow_foreign_code)
        api.snapshot_download(repo_id, **where, allow_patterns=list(PULLED))
    check_checkpoint(part, repo_id, allow_foreign_code)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    if target.exists():
        target.rmdir()
    os.replace(part, target)
    return info.sha


def _weight_files(folder: Path) -> set[str]:
    """Find the weights, and look at every file of them: a cut-off one is refused by its header."""
    names = {WHOLE}
    if (folder / INDEX).is_file() and not (folder / WHOLE).is_file():
        names = set(shards(Run(folder).read(INDEX), str(folder / INDEX)))
    check_weights(folder)
    for name in sorted(names):
        if not (folder / name).is_file():
            what = f"has no {WHOLE}." if name == WHOLE else f"is not whole: the shard {name} is missing; copy it again."
            raise ValueError(f"{folder} {what}")
    return names if names == {WHOLE} else {*names, INDEX}


def _card_pictures(folder: Path) -> set[str]:
    """List the pictures of the folder that its card shows."""
    text, front = (folder / "README.md").read_text(encoding="utf-8"), {}
    with suppress(yaml.YAMLError, ValueError):
        front = ModelCard(text, ignore_metadata_errors=True).data.to_dict()
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


def _left_out(folder: Path, sent: Files) -> dict[str, str]:
    """Say of every file that stays here why; a folder of which nothing is sent is named once."""
    folders = {name.split("/")[0] for name in sent if "/" in name}
    reasons = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        top, _, below = name.partition("/")
        if name in sent or sent.get("metrics.json") == path:
            continue
        if below and top not in folders:
            name, reason = f"{top}/", "no part of a checkpoint"
        elif name.endswith(PICKLES):
            reason = "a pickle could run any code when it is read"
        else:
            reason = "the card does not show it" if below else "no part of a checkpoint"
        reasons[name] = reason
    return reasons
