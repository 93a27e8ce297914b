"""`hfk space push`: a folder as a Space; and `hfk metrics push`: one of hfk's metrics as a Space that `evaluate` loads.

A metric's Space has one Python file that stands alone, from `hfk.evaluation.modules` as it is, so that
`evaluate.load("owner/name")` needs no hfk. Its page is our own: the widget of evaluate 0.4.6 uses `gradio.inputs`,
which went with gradio 4.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, RepoCard
from huggingface_hub.utils import filter_repo_objects
from jinja2 import Template

from ..evaluation import modules
from .publishing import PICKLES, Files, Plan, Pushed, Target, check_repo_id, clear_errors, commit

SDKS = ("gradio", "docker", "static")
HIDDEN_KEPT = (".gitattributes", ".gitignore", ".dockerignore", ".streamlit")
LEFT_BEHIND = ("__pycache__", "node_modules", "flagged", "gradio_cached_examples")
PRELOADED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py"]

METRICS: dict[str, dict[str, Any]] = {
    "single_label_scores": {"predictions": [0, 1, 1], "references": [0, 1, 0]},
    "multi_head_accuracy": {"predictions": [[0, 1], [1, 1]], "references": [[0, 1], [1, 0]], "names": ["cat1", "cat2"]},
    "hierarchy_consistency": {
        "predictions": [[0, 0], [0, 1]],
        "heads": [{"name": "cat1"}, {"name": "cat2", "parent": "cat1", "parent_of": [0, 1]}],
    },
    "multi_label_scores": {"predictions": [[0.9, 0.2], [0.4, 0.7]], "references": [[1, 0], [1, 1]]},
    "regression_scores": {"predictions": [1.0, 3.0], "references": [1.0, 2.0]},
}
"""File in `hfk.evaluation.modules` → an example of its metric's arguments."""
GRADIO = "6.31.0"
METRIC_SPACE = Path(__file__).with_name("metric_space")
"""What a metric's Space has beside the metric."""


def push_space(folder: str | Path, target: Target, api: HfApi | None = None, checkpoints: Sequence[str] = ()) -> Pushed:
    """Send a folder as a Space, in one commit; errors as of `commit`.

    The front matter that is sent names `checkpoints` (`owner/name@revision`) as `models` and, pinned to their commits,
    as `preload_from_hub`: the Hub then fetches them when it builds the Space, and the studio offers them.
    """
    files = plan_space(folder).files
    if checkpoints:
        files["README.md"] = _with_checkpoints(Path(folder) / "README.md", checkpoints, api or HfApi())
    return commit(target, files, repo_type="space", space_sdk=_front_matter(Path(folder))["sdk"], api=api)


def plan_space(folder: str | Path) -> Plan:
    """Check a Space's folder and list what of it would be sent; what its front matter lacks is a ValueError."""
    folder = Path(folder)
    front = _front_matter(folder)
    sdk = front.get("sdk")
    if sdk not in SDKS:
        raise ValueError(f"{folder / 'README.md'}: sdk is {sdk!r} in the front matter; write one of {', '.join(SDKS)}.")
    if sdk == "gradio" and not re.fullmatch(r"\d+\.\d+(\.\d+)?", str(front.get("sdk_version"))):
        raise ValueError(f'{folder / "README.md"}: write sdk_version in the front matter, such as "{GRADIO}".')
    app = front.get("app_file", "app.py" if sdk == "gradio" else "index.html")
    needed = "Dockerfile" if sdk == "docker" else app
    if not (folder / needed).is_file():
        raise ValueError(f"{folder} has no {needed}, which its README.md names as the app: write it, or mend app_file.")
    reasons = _reasons(folder)
    files: Files = {name: folder / name for name, reason in reasons.items() if not reason}
    return Plan(files | _hfk_for(folder, files), {name: reason for name, reason in reasons.items() if reason})


def _with_checkpoints(readme: Path, checkpoints: Sequence[str], api: HfApi) -> bytes:
    """The README with these checkpoints in its front matter, each by the commit that its revision is now."""
    card = RepoCard(readme.read_text(encoding="utf-8"))
    models, preload = [], []
    for checkpoint in checkpoints:
        repo_id, _, revision = checkpoint.partition("@")
        check_repo_id(repo_id)
        with clear_errors(api, repo_id):
            info = api.model_info(repo_id, revision=revision or None)
        names = filter_repo_objects([sibling.rfilename for sibling in info.siblings or []], allow_patterns=PRELOADED)
        models.append(repo_id)
        preload.append(f"{repo_id} {','.join(sorted(names))} {info.sha}")
    card.data.models, card.data.preload_from_hub = models, preload
    return str(card).encode()


def _hfk_for(folder: Path, files: Files) -> Files:
    """hfk's own source, as the author has it, for an app that imports it and neither brings nor installs it."""
    sources = [path.read_text(encoding="utf-8") for name, path in files.items() if name.endswith(".py")]
    uses = any(re.search(r"^\s*(?:from|import) hfk\b", source, re.M) for source in sources)
    requirements = folder / "requirements.txt"
    installs = requirements.is_file() and re.search(r"^hfk\b", requirements.read_text(encoding="utf-8"), re.M)
    if not uses or installs or any(name.startswith("hfk/") for name in files):
        return {}
    package = Path(__file__).resolve().parents[1]
    return {f"hfk/{name}": package / name for name, reason in _reasons(package).items() if not reason}


def push_metric(name: str, target: Target, api: HfApi | None = None) -> Pushed:
    """Send one of `METRICS` as a Space, from which `evaluate.load("owner/name")` loads it; errors as of `commit`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / target.repo_id.split("/")[-1]
        write_metric(name, folder)
        return push_space(folder, target, api)


def write_metric(name: str, folder: str | Path) -> None:
    """Write the folder of a metric's Space, whose name becomes the module's; `evaluate.load(folder)` loads it too."""
    folder = Path(folder)
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}; metrics: {', '.join(METRICS)}.")
    if not folder.name.isidentifier():
        raise ValueError(
            f"{folder.name!r} can't name a metric, as a module: use letters, digits and '_', such as {name}."
        )
    source = Path(modules.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    description = ast.get_docstring(ast.parse(source)).partition("\n")[0]
    facts = {
        "title": name.replace("_", " ").capitalize(),
        "description": description,
        "short": description.rstrip(".")[:60],
        "gradio": GRADIO,
        "example": json.dumps(METRICS[name], ensure_ascii=False),
        "module": folder.name,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{folder.name}.py").write_text(source, encoding="utf-8")
    for template in sorted(METRIC_SPACE.iterdir()):
        text = Template(template.read_text(encoding="utf-8"), keep_trailing_newline=True).render(facts)
        (folder / template.name.removesuffix(".jinja")).write_text(text, encoding="utf-8")


def _front_matter(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    if not readme.is_file():
        raise ValueError(f"{folder} has no README.md with a Space's front matter (title, sdk, sdk_version, app_file).")
    try:
        return RepoCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{readme}: the front matter is no YAML of options; mend it.") from None


def _reasons(folder: Path) -> dict[str, str]:
    """Every file of the folder by name, with the reason why it stays here; empty where it doesn't."""
    reasons = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") and part not in HIDDEN_KEPT for part in parts)
        made = any(part in LEFT_BEHIND for part in parts) or path.suffix in (".pyc", ".part")
        pickled = "a pickle could run any code when it is read" if path.suffix in PICKLES else ""
        reasons["/".join(parts)] = "hidden" if hidden else "made while running" if made else pickled
    return reasons
