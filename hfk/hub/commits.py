"""One push is one commit: the files of a push, what of them may leave the machine, and the Hub's refusals in words.

Checkpoints, data sets' cards, Spaces and metrics all go through `commit`. A commit is atomic on the Hub: large files
are uploaded first and nothing points to them until the commit, which is built on the revision that was looked at. So a
push that breaks off, or that another push overtakes, leaves what is served as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, get_token
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
from huggingface_hub.utils import hf_raise_for_status, validate_repo_id

LFS_FROM_BYTES = 10_000_000
# fmt: off
LFS_SUFFIXES = frozenset({
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack", ".npy",
    ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors", ".tar",
    ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
})
"""What a new repository's .gitattributes gives to LFS."""
TEXT_SUFFIXES = frozenset({
    ".cfg", ".css", ".csv", ".env", ".html", ".ini", ".js", ".json", ".jsonl", ".md", ".py", ".sh", ".toml", ".tsv",
    ".txt", ".yaml", ".yml",
})
# fmt: on
_SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")
_FULL_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class PlannedFile:
    """A file of a push.

    Args:
        path: where it will lie in the repository.
        source: the file here, or the content itself.
    """

    path: str
    source: Path | bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def read(self) -> bytes:
        """Return its whole content."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @property
    def lfs(self) -> bool:
        """Whether the Hub will keep it as a large file."""
        return Path(self.path).suffix.lower() in LFS_SUFFIXES or self.size >= LFS_FROM_BYTES


@dataclass(frozen=True)
class Target:
    """Where a push goes.

    Args:
        repo_id: `owner/name`.
        private: for a new repository; None leaves it to the owner's default. An existing one must agree.
        revision: branch to commit to, made if it is not there; `main` by default.
        create_pr: open a pull request against `main` instead.
        message: of the commit.

    Raises:
        ValueError: if the id is no repository's id, or both a branch and a pull request are asked for.
    """

    repo_id: str
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    message: str | None = None

    def __post_init__(self) -> None:
        check_repo_id(self.repo_id)
        if self.create_pr and self.revision not in (None, "main"):
            raise ValueError("a pull request is opened against main: leave --revision or --create-pr out.")


@dataclass(frozen=True)
class Pushed:
    """What a push made.

    Args:
        repo_id: `owner/name`.
        url: page of the commit, or of the pull request.
        sha: the commit, to be pinned as `revision`.
    """

    repo_id: str
    url: str
    sha: str


def check_repo_id(repo_id: str) -> None:
    """Raise ValueError unless `repo_id` is an `owner/name` that the Hub would take."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        valid = False
    else:
        valid = _FULL_ID.fullmatch(repo_id) is not None
    if not valid:
        raise ValueError(
            f"{repo_id!r} is no repository's id: write owner/name, with letters, digits, '-', '_' and '.' only."
        )


def check_no_secrets(files: Iterable[PlannedFile]) -> None:
    """Raise ValueError if a text file holds what looks like a Hub token; it names the file and not the token."""
    for file in files:
        if Path(file.path).suffix.lower() in TEXT_SUFFIXES and _SECRET.search(file.read()):
            raise ValueError(
                f"{file.path} holds what looks like a Hub token (hf_…): take it out, and revoke the token if it "
                "was ever sent anywhere."
            )


def list_plan(files: Iterable[PlannedFile], left_out: dict[str, str]) -> str:
    """Write a push as a table for a dry run: path, size in bytes, LFS or not; then what stays here and why."""
    files = list(files)
    width = max(len(file.path) for file in files)
    lines = [f"{file.path:{width}}  {file.size:>13,}  {'LFS' if file.lfs else ''}".rstrip() for file in files]
    lines.append(f"{len(files)} files, {sum(file.size for file in files):,} bytes")
    if left_out:
        lines.append("left out:")
        lines += [f"  {path}: {reason}" for path, reason in left_out.items()]
    return "\n".join(lines)


def commit(
    target: Target,
    files: list[PlannedFile],
    repo_type: str = "model",
    stale: re.Pattern[str] | None = None,
    space_sdk: str | None = None,
    api: HfApi | None = None,
) -> Pushed:
    """Send files as one commit; the repository and the branch are made if they are not there.

    Args:
        target: where to.
        files: what; README.md's front matter is checked by the Hub before anything else is done.
        repo_type: "model", "dataset" or "space".
        stale: files there whose path matches and that are not among `files` are deleted in the same commit: what is
            left of an older push must not be loaded together with this one.
        space_sdk: for a Space.
        api: the client; one with the saved token by default.

    Raises:
        ValueError: for whatever the user can mend (login, permissions, visibility, the card, another push meanwhile).
        ConnectionError: if the Hub can't be reached, or fails.
    """
    check_no_secrets(files)
    api = api or HfApi()
    with clear_errors(api, target.repo_id, write=True):
        require_token(api)
        for file in files:
            if file.path == "README.md":
                # Before the repository is made: a card that is refused should leave no empty one behind.
                validate_card(api, file.read().decode(), repo_type)
        sha, there = prepare_repository(api, target, repo_type, space_sdk)
        sent = {file.path for file in files}
        operations: list = [CommitOperationAdd(file.path, file.source) for file in files]
        operations += [
            CommitOperationDelete(path) for path in there if stale and path not in sent and stale.fullmatch(path)
        ]
        made = api.create_commit(
            target.repo_id,
            operations,
            commit_message=target.message or f"Push {len(files)} files with hfk",
            repo_type=repo_type,
            revision=target.revision,
            create_pr=target.create_pr,
            parent_commit=sha,
        )
    return Pushed(target.repo_id, made.pr_url or made.commit_url, made.oid)


def validate_card(api: HfApi, card: str, repo_type: str) -> None:
    """Have the Hub check a card's front matter; `RepoCard.validate` does, at the default address only.

    Args:
        api: the client.
        card: README.md's text.
        repo_type: "model", "dataset" or "space".

    Raises:
        ValueError: with what the Hub says.
    """
    body = {"repoType": repo_type, "content": card}
    response = get_session().post(f"{api.endpoint}/api/validate-yaml", json=body)
    if response.status_code == 400:
        said = "; ".join(error.get("message", "") for error in response.json().get("errors", []))
        raise ValueError(f"README.md: the Hub refuses its front matter: {' '.join(said.split())}")
    hf_raise_for_status(response)


@contextmanager
def clear_errors(api: HfApi, repo_id: str, write: bool = False) -> Iterator[None]:
    """Turn what the Hub and its client raise into one sentence.

    Args:
        api: the client.
        repo_id: of the repository that is worked on.
        write: whether it is written to, which needs other permissions.

    Raises:
        ValueError: for whatever the user can mend.
        ConnectionError: if the Hub can't be reached, or fails.
    """
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


def require_token(api: HfApi) -> None:
    """Raise LocalTokenNotFoundError if nobody is logged in."""
    if api.token is None and get_token() is None:
        raise LocalTokenNotFoundError


def prepare_repository(
    api: HfApi, target: Target, repo_type: str, space_sdk: str | None = None
) -> tuple[str, list[str]]:
    """Make repository and branch where they are not there.

    Args:
        api: the client.
        target: where to.
        repo_type: "model", "dataset" or "space".
        space_sdk: for a Space.

    Returns:
        the commit to build on, and the paths of its files.

    Raises:
        ValueError: if the repository is there with another visibility than asked for.
    """
    where = {"repo_id": target.repo_id, "repo_type": repo_type}
    try:
        info = api.repo_info(**where)
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise
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
