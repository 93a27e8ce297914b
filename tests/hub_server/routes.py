"""What the stand-in for the Hub answers: the calls of `huggingface_hub`, `transformers` and `datasets`, without Xet.

Accounts, repositories, uploads (plain, LFS, LFS in parts), commits, pull requests, references, listings, downloads.
As on the Hub, large files come from another host (here: `localhost` in place of `127.0.0.1`), by a signed address that
takes no token. Handlers change state without awaiting in between, so that each commit stands on the one before.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from math import ceil
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, unquote, urlencode

import yaml
from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from .store import Account, HubError, Repo, Store, card_errors, front_matter

router = APIRouter()


# -- who asks, and for what --------------------------------------------------------------------------------------------


def the_store(request: Request) -> Store:
    return request.app.state.store


def caller(request: Request) -> Account | None:
    """Return who asks, None without a token."""
    header = request.headers.get("authorization", "")
    if not header:
        return None
    account = the_store(request).tokens.get(header.removeprefix("Bearer "))
    if account is None:
        raise HubError(401, None, "Invalid credentials in Authorization header")
    return account


def signed_in(request: Request) -> Account:
    account = caller(request)
    if account is None:
        raise HubError(401, None, "Invalid username or password.")
    return account


def writer(request: Request) -> Account:
    account = signed_in(request)
    if account.role != "write":
        raise HubError(403, None, "Forbidden: you must use a write token to upload to a repository.")
    return account


def readable(request: Request, owner: str, name: str, kind: str = "models") -> Repo:
    """Return a repository that the caller may know of; one they may not see does not exist for them."""
    store, account, repo_id = the_store(request), caller(request), f"{owner}/{name}"
    if (kind, repo_id) in store.moved:
        path = request.scope["path"].replace(repo_id, store.moved[kind, repo_id], 1)
        query = f"?{request.url.query}" if request.url.query else ""
        raise HubError(307, None, "moved", Location=f"{the_endpoint(request)}{path}{query}")
    repo = store.repos.get((kind, repo_id))
    if repo is None or (repo.private and not (account and account.owns(repo.owner))):
        raise HubError(401 if account is None else 404, "RepoNotFound", "Repository not found")
    return repo


def writable(request: Request, owner: str, name: str, kind: str = "models") -> Repo:
    """Return a repository that the caller may change; to a pull request anyone who can read it may add."""
    repo, account = readable(request, owner, name, kind), writer(request)
    if not account.owns(repo.owner) and "create_pr" not in request.query_params:
        raise HubError(403, None, f'You don\'t have the rights to write to "{repo.id}"')
    return repo


def check_gate(request: Request, repo: Repo) -> None:
    account = caller(request)
    if repo.gated and not (account and (account.owns(repo.owner) or account.user in repo.granted)):
        what = f"Access to {repo.kind[:-1]} {repo.id} is restricted"
        if account is None:
            raise HubError(401, "GatedRepo", f"{what}. You must be authenticated to access it. Please log in.")
        page = f"{the_endpoint(request)}/{repo.page}"
        raise HubError(403, "GatedRepo", f"{what} and you are not in the authorized list. Visit {page} to ask for it.")


def the_endpoint(request: Request) -> str:
    return f"http://{request.headers['host']}"


Seen = Annotated[Repo, Depends(readable)]
Written = Annotated[Repo, Depends(writable)]
SignedIn = Annotated[Account, Depends(signed_in)]
Writer = Annotated[Account, Depends(writer)]
TheStore = Annotated[Store, Depends(the_store)]
Json = Annotated[dict[str, Any], Body()]
REPO = "/api/{kind}/{owner}/{name}"


def signature(request: Request, path: str) -> str:
    return hmac.new(request.app.state.secret, path.encode(), hashlib.sha256).hexdigest()


def sign(request: Request, path: str, other_host: bool = True, **query: str) -> str:
    """Return the address of a path that works without a token; by default on the other name of this host."""
    host = request.headers["host"]
    if other_host:
        name, _, port = host.partition(":")
        host = f"{'127.0.0.1' if name == 'localhost' else 'localhost'}:{port}"
    return f"http://{host}{path}?{urlencode(query | {'signature': signature(request, path)})}"


def check_signature(request: Request) -> None:
    if not hmac.compare_digest(
        request.query_params.get("signature", ""), signature(request, request.scope["path"].partition("?")[0])
    ):
        raise HubError(403, None, "AccessDenied")
    if "authorization" in request.headers:
        raise HubError(400, None, "Only one auth mechanism allowed; a token was sent to the storage host.")


# -- accounts and repositories -----------------------------------------------------------------------------------------


@router.get("/api/whoami-v2")
async def whoami(account: SignedIn) -> dict:
    token = {"displayName": "stand-in", "role": account.role, "createdAt": "2024-01-01T00:00:00.000Z"}
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "admin"} for name in account.organizations]
    auth = {"type": "access_token", "accessToken": token}
    return {"type": "user", "name": account.user, "fullname": account.user, "isPro": False, "orgs": orgs, "auth": auth}


@router.post("/api/repos/create")
async def create_repo(request: Request, account: Writer, store: TheStore, body: Json) -> Response:
    kind, owner = f"{body.get('type') or 'model'}s", body.get("organization") or account.user
    if not account.owns(owner):
        raise HubError(403, None, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{owner}"')
    repo, status = store.repos.get((kind, f"{owner}/{body['name']}")), 409
    if repo is None:
        private = body.get("visibility") == "private"
        repo = store.create(kind, owner, body["name"], account.user, private=private, sdk=body.get("sdk"))
        status = 200
    answer = {"url": f"{the_endpoint(request)}/{repo.page}", "name": repo.id}
    error = {"error": f"You already created this {kind[:-1]} repo: {repo.id}"} if status == 409 else {}
    return JSONResponse(answer | error, status)


@router.delete("/api/repos/delete")
async def delete_repo(request: Request, account: Writer, store: TheStore, body: Json) -> dict:
    owner = body.get("organization") or account.user
    store.delete(writable(request, owner, body["name"], f"{body.get('type') or 'model'}s"))
    return {}


@router.post("/api/repos/move")
async def move_repo(request: Request, account: Writer, store: TheStore, body: Json) -> dict:
    kind, target = f"{body['type']}s", body["toRepo"]
    repo = writable(request, *body["fromRepo"].split("/"), kind)
    if not account.owns(target.split("/")[0]):
        raise HubError(403, None, f"You don't have the rights to move a repository to {target}")
    if (kind, target) in store.repos:
        raise HubError(409, None, f"{target} exists already")
    store.move(repo, *target.split("/"))
    return {}


@router.put(REPO + "/settings")
async def change_settings(repo: Written, store: TheStore, body: Json) -> dict:
    if "visibility" in body:
        repo.private = body["visibility"] == "private"
    repo.gated = body.get("gated", repo.gated)
    store.save(repo)
    return {}


@router.post(REPO + "/user-access-request/grant")
async def grant_access(repo: Written, store: TheStore, body: Json) -> dict:
    repo.granted.append(body["user"])
    store.save(repo)
    return {}


@router.get(REPO + "/auth-check")
@router.get(REPO + "/auth-check/{access}")
async def auth_check(request: Request, repo: Seen, access: str = "read") -> dict:
    check_gate(request, repo)
    if access == "write":
        writable(request, repo.owner, repo.name, repo.kind)
    return {}


@router.post("/api/validate-yaml")
async def validate_yaml(body: Json) -> Response:
    try:
        card = front_matter(body["content"])
    except yaml.YAMLError as error:
        return JSONResponse({"errors": [{"message": f"bad YAML: {error}"}], "warnings": []}, 400)
    if card is None:
        return JSONResponse(
            {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}, 200
        )
    errors = [{"message": message} for message in card_errors(card, body.get("repoType", "model"))]
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


# -- what there is -----------------------------------------------------------------------------------------------------


def describe(store: Store, repo: Repo, oid: str, blobs: bool = False) -> dict[str, Any]:
    commit = store.commit(repo, oid)
    card = store.card(commit["files"]) or {}
    siblings = []
    for path, entry in sorted(commit["files"].items()):
        siblings.append({"rfilename": path})
        if blobs:
            siblings[-1] |= {"size": entry["size"], "blobId": entry["oid"]}
            if entry["lfs"]:
                siblings[-1]["lfs"] = {"size": entry["size"], "sha256": entry["sha256"], "pointerSize": 134}
    known = {key: card[key] for key in ("pipeline_tag", "library_name", "model-index", "sdk") if key in card}
    return {
        "_id": repo.uid,
        "id": repo.id,
        "author": repo.owner,
        "sha": oid,
        "createdAt": repo.created,
        "lastModified": commit["date"],
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags") or [],
        "cardData": card or None,
        "siblings": siblings,
        **({"sdk": repo.sdk} if repo.sdk else {}),
        **known,
    }


@router.get("/api/{kind}")
async def list_repos(request: Request, kind: str, store: TheStore) -> list[dict]:
    account, asked = caller(request), request.query_params
    if kind not in ("models", "datasets", "spaces"):
        raise HubError(404, None, f"The stand-in has no /api/{kind}")
    return [
        describe(store, repo, store.resolve(repo, "main"))
        for repo in sorted(store.repos.values(), key=lambda repo: repo.id)
        if repo.kind == kind
        and repo.owner == asked.get("author", repo.owner)
        and asked.get("search", "").lower() in repo.id.lower()
        and (not repo.private or (account is not None and account.owns(repo.owner)))
    ]


@router.get(REPO)
@router.get(REPO + "/revision/{revision}")
async def repo_info(request: Request, repo: Seen, store: TheStore, revision: str = "main") -> dict:
    found = describe(store, repo, store.resolve(repo, unquote(revision)), "blobs" in request.query_params)
    expand = request.query_params.getlist("expand")
    return {key: value for key, value in found.items() if not expand or key in ("_id", "id", *expand)}


def tree_entries(
    store: Store, repo: Repo, commit: dict[str, Any], folder: str, recursive: bool, expand: bool
) -> list[dict]:
    """List a folder of a tree as the Hub does: files and folders, by path."""
    prefix = f"{folder}/" if folder else ""
    history = store.history(repo, commit["id"]) if expand else []
    found: dict[str, dict] = {}
    for path, entry in sorted(commit["files"].items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            if recursive or depth == 1:
                name = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(f"{commit['id']} {name}".encode()).hexdigest()
                found.setdefault(name, {"type": "directory", "oid": oid, "size": 0, "path": name})
        if recursive or len(parts) == 1:
            found[path] = {"type": "file", "oid": entry["oid"], "size": entry["size"], "path": path}
            if entry["lfs"]:
                found[path]["lfs"] = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 134}
    for path, item in found.items() if expand else ():
        last = store.last_change(history, path)
        item["lastCommit"] = {"id": last["id"], "title": last["title"], "date": last["date"]}
    return sorted(found.values(), key=lambda item: item["path"])


@router.get(REPO + "/tree/{revision}")
@router.get(REPO + "/tree/{revision}/{folder:path}")
async def tree(request: Request, repo: Seen, store: TheStore, revision: str, folder: str = "") -> Response:
    commit, asked = store.commit(repo, store.resolve(repo, unquote(revision))), request.query_params
    recursive, expand = (asked.get(name, "").lower() in ("true", "1") for name in ("recursive", "expand"))
    found = tree_entries(store, repo, commit, unquote(folder).strip("/"), recursive, expand)
    if folder and not found:
        raise HubError(404, "EntryNotFound", f"{unquote(folder)} does not exist on {unquote(revision)}")
    return page(request, found)


def page(request: Request, items: list) -> Response:
    """Answer with one page of a list and, in the `Link` header, the address of the next."""
    start, size = int(request.query_params.get("cursor", 0)), request.app.state.page_size
    headers = {}
    if start + size < len(items):
        query = urlencode(dict(request.query_params) | {"cursor": start + size})
        headers["Link"] = f'<{the_endpoint(request)}{request.scope["path"]}?{query}>; rel="next"'
    return JSONResponse(items[start : start + size], headers=headers)


@router.post(REPO + "/paths-info/{revision}")
async def paths_info(request: Request, repo: Seen, store: TheStore, revision: str) -> list[dict]:
    asked = parse_qs((await request.body()).decode())
    commit = store.commit(repo, store.resolve(repo, unquote(revision)))
    expand = asked.get("expand", [""])[0].lower() == "true"
    found = tree_entries(store, repo, commit, "", recursive=True, expand=expand)
    wanted = {path.strip("/") for path in asked.get("paths", [])}
    return [item for item in found if item["path"] in wanted]


@router.get(REPO + "/commits/{revision}")
async def commits(request: Request, repo: Seen, store: TheStore, revision: str) -> Response:
    keys = "id", "title", "message", "date"
    history = store.history(repo, store.resolve(repo, unquote(revision)))
    return page(
        request, [{key: commit[key] for key in keys} | {"authors": [{"user": commit["author"]}]} for commit in history]
    )


@router.get(REPO + "/refs")
async def refs(request: Request, repo: Seen) -> dict:
    found: dict[str, list] = {"branches": [], "converts": [], "tags": []}
    if "include_prs" in request.query_params:
        found["pullRequests"] = []
    places = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
    for ref, oid in sorted(repo.refs.items()):
        _, place, name = ref.split("/", 2)
        if places[place] in found:
            found[places[place]].append({"name": name, "ref": ref, "targetCommit": oid})
    return found


# -- references --------------------------------------------------------------------------------------------------------


@router.post(REPO + "/branch/{branch}")
async def create_branch(repo: Written, store: TheStore, branch: str, body: Json) -> dict:
    return add_ref(store, repo, f"refs/heads/{unquote(branch)}", body.get("startingPoint") or "main")


@router.post(REPO + "/tag/{revision}")
async def create_tag(repo: Written, store: TheStore, revision: str, body: Json) -> dict:
    return add_ref(store, repo, f"refs/tags/{body['tag']}", unquote(revision))


def add_ref(store: Store, repo: Repo, ref: str, revision: str) -> dict:
    if ref in repo.refs:
        raise HubError(409, None, f"Reference already exists: {ref}")
    if ref.startswith("refs/heads/refs/"):
        raise HubError(400, None, f"Invalid reference for a branch: {ref.removeprefix('refs/heads/')}")
    repo.refs[ref] = store.resolve(repo, revision)
    store.save(repo)
    return {}


@router.delete(REPO + "/branch/{ref}")
@router.delete(REPO + "/tag/{ref}")
async def delete_ref(request: Request, repo: Written, store: TheStore, ref: str) -> dict:
    place = "tags" if request.scope["path"].split("/")[5] == "tag" else "heads"
    full = f"refs/{place}/{unquote(ref)}"
    if full == "refs/heads/main":
        raise HubError(403, None, "Cannot delete the main branch")
    if repo.refs.pop(full, None) is None:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {unquote(ref)}")
    store.save(repo)
    return {}


# -- uploads -----------------------------------------------------------------------------------------------------------


@router.post(REPO + "/preupload/{revision}")
async def preupload(repo: Written, store: TheStore, revision: str, body: Json) -> dict:
    files = store.commit(repo, store.resolve(repo, unquote(revision)))["files"]
    answer = []
    for file in body["files"]:
        path = file["path"]
        answer.append(
            {
                "path": path,
                "uploadMode": store.upload_mode(files, path, file["size"]),
                "shouldIgnore": store.is_ignored(files, path, body.get("gitIgnore")),
            }
        )
        if path in files:
            answer[-1]["oid"] = files[path]["sha256" if files[path]["lfs"] else "oid"]
    return {"files": answer}


LFS = "/{owner}/{name}.git/info/lfs/objects/"


@router.post(LFS + "batch")
@router.post("/{kind}" + LFS + "batch")
async def lfs_batch(request: Request, repo: Seen, account: Writer, store: TheStore, body: Json) -> dict:
    if "ref" in body and not account.owns(repo.owner):
        raise HubError(403, None, f'You don\'t have the rights to write to "{repo.id}"')
    part = request.app.state.part_bytes
    in_parts = "multipart" in body["transfers"]
    objects = []
    for asked in body["objects"]:
        oid, size = asked["oid"], asked["size"]
        objects.append(dict(asked))
        if oid in repo.objects:
            continue
        verify = {"href": f"{the_endpoint(request)}/{repo.page}.git/info/lfs/objects/verify"}
        upload: dict[str, Any] = {"href": sign(request, f"/lfs/{repo.uid}/{oid}")}
        if in_parts and size > part:
            urls = {str(n): sign(request, f"/lfs/{repo.uid}/{oid}/{n}") for n in range(1, ceil(size / part) + 1)}
            complete = sign(request, f"/lfs/{repo.uid}/{oid}/complete", other_host=False)
            upload = {"href": complete, "header": {"chunk_size": str(part)} | urls}
        objects[-1] |= {"authenticated": True, "actions": {"upload": upload, "verify": verify}}
    return {"transfer": "multipart" if in_parts else "basic", "objects": objects}


def uploaded(store: Store, uid: str, oid: str, source: Path) -> None:
    """Take a received file in if its content is what its name says."""
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != oid:
        source.unlink()
        raise HubError(400, None, f"The content's SHA-256 is {found}, not {oid}.")
    source.replace(store.blob(oid))
    repo = next(repo for repo in store.repos.values() if repo.uid == uid)
    repo.objects.append(oid)
    store.save(repo)


async def receive_file(request: Request, target: Path) -> str:
    """Write the request's body to a file, whole or not at all; returns its ETag."""
    digest = hashlib.md5(usedforsecurity=False)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        with part.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                digest.update(chunk)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


@router.put("/lfs/{uid}/{oid}", dependencies=[Depends(check_signature)])
@router.put("/lfs/{uid}/{oid}/{number}", dependencies=[Depends(check_signature)])
async def lfs_put(request: Request, store: TheStore, uid: str, oid: str, number: str = "whole") -> Response:
    target = store.folder / "uploads" / f"{uid}-{oid}-{number}"
    etag = await receive_file(request, target)
    if number == "whole":
        uploaded(store, uid, oid, target)
    return Response(headers={"ETag": f'"{etag}"'})


@router.post("/lfs/{uid}/{oid}/complete", dependencies=[Depends(check_signature)])
async def lfs_complete(store: TheStore, uid: str, oid: str, body: Json) -> dict:
    target = store.folder / "uploads" / f"{uid}-{oid}-whole"
    with target.open("wb") as file:
        for number, part in enumerate(body["parts"], start=1):
            data = (target.with_name(f"{uid}-{oid}-{number}")).read_bytes()
            if part["partNumber"] != number or part["etag"].strip('"') != hashlib.md5(data).hexdigest():
                raise HubError(400, None, f"Part {number} is not the one that was uploaded.")
            file.write(data)
    uploaded(store, uid, oid, target)
    for number in range(1, len(body["parts"]) + 1):
        target.with_name(f"{uid}-{oid}-{number}").unlink()
    return {}


@router.post(LFS + "verify")
@router.post("/{kind}" + LFS + "verify")
async def lfs_verify(repo: Seen, account: Writer, store: TheStore, body: Json) -> dict:
    if body["oid"] not in repo.objects or store.blob(body["oid"]).stat().st_size != body["size"]:
        raise HubError(404, None, f"Object {body['oid']} was not uploaded whole.")
    return {}


@router.post(REPO + "/commit/{revision}")
async def commit(request: Request, repo: Written, account: Writer, store: TheStore, revision: str) -> dict:
    lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
    header, operations = lines[0]["value"], lines[1:]
    for operation in operations:
        if operation["key"] == "file":
            operation["value"]["data"] = base64.b64decode(operation["value"]["content"])
    revision = unquote(revision)
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    head = store.resolve(repo, revision if revision in repo.refs else ref)
    if header.get("parentCommit") not in (None, head):
        raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
    answer = {}
    if "create_pr" in request.query_params:
        number = len(repo.pull_requests) + 1
        answer["pullRequestUrl"] = f"{the_endpoint(request)}/{repo.page}/discussions/{number}"
        pull = {"num": number, "title": header.get("summary", ""), "author": account.user, "base": ref, "merged": False}
        ref = f"refs/pr/{number}"
    oid = store.add_commit(repo, ref, head, operations, header, account.user)
    if answer:
        repo.pull_requests.append(pull)
        store.save(repo)
    url = f"{the_endpoint(request)}/{repo.page}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": "", **answer}


@router.post(REPO + "/discussions/{number}/merge")
async def merge(repo: Written, store: TheStore, account: Writer, number: int) -> dict:
    """Merge a pull request: its changed files go onto the branch it was made for."""
    pull = next((pull for pull in repo.pull_requests if pull["num"] == number), None)
    if pull is None or pull["merged"]:
        raise HubError(404, None, f"There is no open pull request {number}.")
    changed = store.history(repo, repo.refs[f"refs/pr/{number}"])
    on_base = {commit["id"] for commit in store.history(repo, repo.refs[pull["base"]])}
    before = next(commit for commit in changed if commit["id"] in on_base)["files"]
    after = changed[0]["files"]
    operations = [{"key": "deletedFile", "value": {"path": path}} for path in before if path not in after]
    operations += [
        {"key": "copyFile", "value": {"path": path, "srcPath": path, "srcRevision": changed[0]["id"]}}
        for path, entry in after.items()
        if before.get(path) != entry
    ]
    header = {"summary": f"{pull['title']} (#{number})"}
    store.add_commit(repo, pull["base"], repo.refs[pull["base"]], operations, header, account.user)
    pull["merged"] = True
    store.save(repo)
    return {}


# -- downloads ---------------------------------------------------------------------------------------------------------


@router.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
@router.api_route("/{kind}/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve(request: Request, repo: Seen, store: TheStore, revision: str, path: str) -> Response:
    check_gate(request, repo)
    oid, path = store.resolve(repo, unquote(revision)), unquote(path)
    entry = store.commit(repo, oid)["files"].get(path)
    if entry is None:
        raise HubError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": oid})
    headers = {"X-Repo-Commit": oid, "ETag": f'"{entry["oid"]}"'}
    if not entry["lfs"]:
        return FileResponse(store.blob(entry["sha256"]), headers=headers, filename=Path(path).name)
    headers |= {"X-Linked-Etag": f'"{entry["sha256"]}"', "X-Linked-Size": str(entry["size"])}
    location = sign(request, f"/cdn/{entry['sha256']}", filename=Path(path).name)
    return RedirectResponse(location, 302, headers)


@router.api_route("/cdn/{sha256}", methods=["GET", "HEAD"], dependencies=[Depends(check_signature)])
async def cdn(store: TheStore, sha256: str, filename: str) -> Response:
    return FileResponse(store.blob(sha256), headers={"ETag": f'"{sha256}"'}, filename=filename)


@router.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
async def unknown(request: Request, path: str) -> Response:
    """Answer what has no route: repositories without an owner do not exist here, and neither does anything else."""
    if re.match(r"(api/(models|datasets|spaces)/)|([^/]+/resolve/)", path):
        raise HubError(401 if caller(request) is None else 404, "RepoNotFound", "Repository not found")
    raise HubError(404, None, f"The stand-in has no {request.method} /{path}")


async def answer_error(request: Request, error: HubError) -> Response:
    headers = {"X-Error-Message": quote(error.message, safe=" !\"'(),-./:;?@_")} | error.headers
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message}, error.status, headers)
