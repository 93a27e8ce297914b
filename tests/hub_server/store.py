"""What the stand-in for the Hub keeps: accounts, blobs by their SHA-256, repositories and commits, as plain files.

A commit is one JSON file that lists the whole tree; a repository is one JSON file that says which commit each reference
points to, and it is replaced whole, last of all. So an upload that breaks off leaves blobs that nothing points to, and
the old revision stands. What HTTP looks like is in `server.py`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

LFS_FROM_BYTES = 10_000_000
"""Files from this size on are stored by LFS, whatever they are called."""
LFS_PATTERNS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx *.ot
*.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar *.tar.* *.tflite *.tgz *.wasm *.xz
*.zip *.zst *tfevents*
"""
GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS.split())
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


class HubError(Exception):
    """An answer other than success: HTTP status, the Hub's code for it (or None), and the sentence."""

    def __init__(self, status: int, code: str | None, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclasses.dataclass
class Account:
    """Who a token speaks for: a user, the organizations whose repositories they may write, and `read` or `write`."""

    user: str
    organizations: list[str]
    role: str

    def owns(self, owner: str) -> bool:
        return owner in (self.user, *self.organizations)


@dataclasses.dataclass
class Repo:
    """One repository. `refs` maps full reference names to commits; `objects` are the LFS files uploaded to it."""

    kind: str  # models, datasets or spaces
    owner: str
    name: str
    private: bool = False
    gated: str | bool = False
    sdk: str | None = None
    uid: str = dataclasses.field(default_factory=lambda: secrets.token_hex(12))
    created: str = ""
    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    objects: list[str] = dataclasses.field(default_factory=list)
    granted: list[str] = dataclasses.field(default_factory=list)
    pull_requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """Path of its page: models stand at the root, the rest below their kind."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"


class Store:
    """The state in a folder; a second `Store` on the same folder goes on where the first ended."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        for name in ("blobs", "commits", "repos", "uploads"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.tokens: dict[str, Account] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moved: dict[tuple[str, str], str] = {}
        for path in (self.folder / "repos").glob("*/*/*.json"):
            kind, owner, name = *path.parts[-3:-1], path.stem
            state = json.loads(path.read_text(encoding="utf-8"))
            if "moved" in state:
                self.moved[kind, f"{owner}/{name}"] = state["moved"]
            else:
                self.repos[kind, f"{owner}/{name}"] = Repo(**state)

    def add_user(self, user: str, organizations: tuple[str, ...] = ()) -> dict[str, str]:
        """Register a user; returns the tokens by role: `{"write": …, "read": …}`."""
        tokens = {role: f"hf_{user}_{role}" for role in ("write", "read")}
        for role, token in tokens.items():
            self.tokens[token] = Account(user, list(organizations), role)
        return tokens

    # -- blobs ---------------------------------------------------------------------------------------------------

    def blob(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256

    def add_blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.blob(sha256).exists():
            _write(self.blob(sha256), data)
        return sha256

    def entry(self, sha256: str, lfs: bool) -> dict[str, Any]:
        """Describe a stored blob as a file of a tree; an LFS file's `oid` is that of its pointer, as in git."""
        path = self.blob(sha256)
        size = path.stat().st_size
        data = _pointer(sha256, size) if lfs else path.read_bytes()
        return {"sha256": sha256, "size": size, "oid": git_oid(data), "lfs": lfs}

    # -- repositories --------------------------------------------------------------------------------------------

    def create(self, kind: str, owner: str, name: str, author: str, **options: Any) -> Repo:
        """Make a repository with its first commit, which holds `.gitattributes` (and a Space's README.md)."""
        repo = Repo(kind, owner, name, created=now(), **options)
        files = {".gitattributes": GIT_ATTRIBUTES}
        if kind == "spaces":
            files["README.md"] = f"---\ntitle: {name}\nemoji: 🌍\nsdk: {repo.sdk}\napp_file: app.py\n---\n"
        tree = {path: self.entry(self.add_blob(text.encode()), lfs=False) for path, text in files.items()}
        repo.refs["refs/heads/main"] = self._write_commit(repo, tree, [], "initial commit", "", author)
        self.repos[kind, repo.id] = repo
        self.moved.pop((kind, repo.id), None)
        self.save(repo)
        return repo

    def save(self, repo: Repo) -> None:
        path = self.folder / "repos" / repo.kind / repo.owner / f"{repo.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(dataclasses.asdict(repo)).encode())

    def delete(self, repo: Repo) -> None:
        del self.repos[repo.kind, repo.id]
        (self.folder / "repos" / repo.kind / repo.owner / f"{repo.name}.json").unlink()
        shutil.rmtree(self.folder / "commits" / repo.uid)

    def move(self, repo: Repo, owner: str, name: str) -> None:
        """Rename; the old name goes on leading to the new one."""
        old = repo.kind, repo.id
        stub = self.folder / "repos" / repo.kind / repo.owner / f"{repo.name}.json"
        self.repos.pop(old)
        repo.owner, repo.name = owner, name
        self.repos[repo.kind, repo.id] = repo
        self.save(repo)
        self.moved[old] = repo.id
        _write(stub, json.dumps({"moved": repo.id}).encode())

    # -- revisions -----------------------------------------------------------------------------------------------

    def resolve(self, repo: Repo, revision: str) -> str:
        """Return the commit that a branch, tag, full reference or (short) commit id means."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in repo.refs:
                return repo.refs[name]
        if 7 <= len(revision) <= 40 and set(revision) <= set("0123456789abcdef"):
            found = list((self.folder / "commits" / repo.uid).glob(f"{revision}*.json"))
            if len(found) == 1:
                return found[0].stem
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def commit(self, repo: Repo, oid: str) -> dict[str, Any]:
        return json.loads((self.folder / "commits" / repo.uid / f"{oid}.json").read_text(encoding="utf-8"))

    def history(self, repo: Repo, oid: str | None) -> list[dict[str, Any]]:
        """Return a commit and its ancestors, newest first."""
        found = []
        while oid is not None:
            found.append(self.commit(repo, oid))
            oid = next(iter(found[-1]["parents"]), None)
        return found

    def last_change(self, history: list[dict[str, Any]], path: str) -> dict[str, Any]:
        """Return the commit of a history, newest first, that gave a file or folder its present content."""

        def content(commit: dict[str, Any]) -> dict[str, Any]:
            files = commit["files"].items()
            return {name: entry for name, entry in files if name == path or name.startswith(f"{path}/")}

        for commit, before in zip(history, [*history[1:], None], strict=True):
            if before is None or content(before) != content(commit):
                return commit
        raise AssertionError("the first commit has no predecessor")

    def add_commit(
        self, repo: Repo, ref: str, base: str, operations: list[dict[str, Any]], header: dict[str, Any], author: str
    ) -> str:
        """Apply the operations of a commit to the tree of `base`, and let `ref` point to the result.

        Raises:
            HubError: if a file to delete is missing, or an LFS file was never uploaded. Nothing is changed then.
        """
        files = dict(self.commit(repo, base)["files"])
        for operation in operations:
            key, value = operation["key"], operation["value"]
            path = value["path"]
            if key == "file":
                files[path] = self.entry(self.add_blob(value["data"]), lfs=False)
            elif key == "lfsFile":
                if value["oid"] not in repo.objects:
                    raise HubError(400, None, f"LFS pointer pointed to a file that does not exist: {path}")
                files[path] = self.entry(value["oid"], lfs=True)
            elif key == "copyFile":
                source = self.commit(repo, self.resolve(repo, value.get("srcRevision") or base))["files"]
                if value["srcPath"] not in source:
                    raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {value['srcPath']}")
                files[path] = source[value["srcPath"]]
            elif key == "deletedFile":
                if files.pop(path, None) is None:
                    raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
            elif key == "deletedFolder":
                inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
                if not inside:
                    raise HubError(404, "EntryNotFound", "A folder with this name doesn't exist")
                for name in inside:
                    del files[name]
            else:
                raise HubError(400, None, f"unknown operation {key!r}")
        message = header.get("summary", ""), header.get("description", "")
        repo.refs[ref] = oid = self._write_commit(repo, files, [base], *message, author)
        self.save(repo)
        return oid

    def _write_commit(
        self, repo: Repo, files: dict[str, Any], parents: list[str], title: str, message: str, author: str
    ) -> str:
        commit = {
            "files": files,
            "parents": parents,
            "title": title,
            "message": message,
            "author": author,
            "date": now(),
        }
        oid = hashlib.sha1(json.dumps([repo.uid, secrets.token_hex(8), commit]).encode()).hexdigest()
        path = self.folder / "commits" / repo.uid / f"{oid}.json"
        path.parent.mkdir(exist_ok=True)
        _write(path, json.dumps({"id": oid, **commit}).encode())
        return oid

    # -- what is to be uploaded, and how -------------------------------------------------------------------------

    def upload_mode(self, files: dict[str, Any], path: str, size: int) -> str:
        """Return `lfs` or `regular` for a file, by the repository's `.gitattributes` and the size."""
        text = self.blob(files[".gitattributes"]["sha256"]).read_text() if ".gitattributes" in files else ""
        patterns = [line.split()[0] for line in text.splitlines() if "filter=lfs" in line]
        return "lfs" if size >= LFS_FROM_BYTES or _matches(path, patterns) else "regular"

    def is_ignored(self, files: dict[str, Any], path: str, git_ignore: str | None) -> bool:
        if git_ignore is None and ".gitignore" in files:
            git_ignore = self.blob(files[".gitignore"]["sha256"]).read_text()
        lines = (line.strip() for line in (git_ignore or "").splitlines())
        return _matches(path, [line.rstrip("/") for line in lines if line and not line.startswith("#")])

    def card(self, files: dict[str, Any]) -> dict[str, Any] | None:
        """Return the front matter of a tree's README.md, or None."""
        if "README.md" not in files:
            return None
        try:
            return front_matter(self.blob(files["README.md"]["sha256"]).read_text(encoding="utf-8"))
        except yaml.YAMLError:
            return None


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def front_matter(text: str) -> dict[str, Any] | None:
    """Return the YAML block at a card's head, or None where there is none; raises yaml.YAMLError."""
    parts = text.lstrip("\ufeff").replace("\r\n", "\n").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    found = yaml.safe_load(parts[1])
    return found if isinstance(found, dict) else None


def card_errors(card: dict[str, Any], kind: str) -> list[str]:
    """Return what the Hub would refuse in a card's metadata, one sentence each."""
    errors = []
    for key in ("datasets", "base_model", "tags", "language", "license", "metrics"):
        values = card.get(key)
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            if not isinstance(value, str):
                errors.append(f'"{key}" must be a string, or a list of strings')
            elif key in ("datasets", "base_model") and (value.count("/") > 1 or " " in value or value.startswith("/")):
                errors.append(f'"{key}" with value "{value}" is not valid. Use a model or dataset id from the Hub.')
    if card.get("base_model_relation") not in (None, "adapter", "merge", "quantized", "finetune"):
        errors.append('"base_model_relation" must be one of [adapter, merge, quantized, finetune]')
    for model in card.get("model-index") or []:
        for result in model.get("results", [{}]):
            for field, keys in {"task": ["type"], "dataset": ["type", "name"]}.items():
                errors += [
                    f'"model-index[0].results[0].{field}.{key}" is required'
                    for key in keys
                    if not isinstance((result.get(field) or {}).get(key), str)
                ]
            for metric in result.get("metrics") or [{}]:
                if "type" not in metric or "value" not in metric:
                    errors.append('"model-index[0].results[0].metrics" needs "type" and "value"')
        if not isinstance(model.get("name"), str):
            errors.append('"model-index[0].name" is required')
    if kind == "space":
        if card.get("sdk") not in ("gradio", "docker", "static", "streamlit"):
            errors.append('"sdk" must be one of [gradio, docker, static]')
        errors += [
            f'"{key}" must be one of [{", ".join(COLORS)}]'
            for key in ("colorFrom", "colorTo")
            if card.get(key) not in (None, *COLORS)
        ]
        if len(card.get("short_description") or "") > 60:
            errors.append('"short_description" length must be less than or equal to 60 characters long')
        errors += [
            f'"{key}" must be a string (in YAML, in quotes)'
            for key in ("title", "sdk_version", "python_version", "app_file")
            if not isinstance(card.get(key), str | None)
        ]
    return errors


def _matches(path: str, patterns: list[str]) -> bool:
    """Match as git does, nearly: a pattern without a slash fits any name on the way."""
    names = path.split("/")
    heads = ["/".join(names[: i + 1]) for i in range(len(names))]
    return any(
        any(fnmatch.fnmatchcase(part, pattern.lstrip("/")) for part in (heads if "/" in pattern else names))
        for pattern in patterns
    )


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(data)
    part.replace(path)
