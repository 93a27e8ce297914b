"""`hfk space push`: a folder as a Space; and `hfk metrics push`: one of hfk's metrics as a Space that `evaluate` loads.

A metric's Space has one Python file that stands alone: the class with everything of hfk that it uses, copied together
from hfk's own source, so that `evaluate.load("owner/name")` needs no hfk. Its page is our own: the widget of evaluate
0.4.6 uses `gradio.inputs`, which went with gradio 4.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, RepoCard
from huggingface_hub.utils import filter_repo_objects

from .commits import PlannedFile, Pushed, Target, check_repo_id, clear_errors, commit

SDKS = ("gradio", "docker", "static")
HIDDEN_KEPT = (".gitattributes", ".gitignore", ".dockerignore", ".streamlit")
LEFT_BEHIND = ("__pycache__", "node_modules", "flagged", "gradio_cached_examples")
PRELOADED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")

_HEADS = [
    {"name": "cat1", "labels": ["자연", "음식"]},
    {"name": "cat2", "labels": ["산", "한식"], "parent": "cat1", "parent_of": [0, 1]},
]
METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    "single_label_scores": (
        "SingleLabelScores",
        {"predictions": [0, 1, 1], "references": [0, 1, 0]},
    ),
    "multi_head_accuracy": (
        "MultiHeadAccuracy",
        {"predictions": [[0, 1], [1, 1]], "references": [[0, 1], [1, 0]], "names": ["cat1", "cat2"]},
    ),
    "hierarchy_consistency": ("HierarchyConsistency", {"predictions": [[0, 0], [0, 1]], "heads": _HEADS}),
    "multi_label_scores": (
        "MultiLabelScores",
        {"predictions": [[0.9, 0.2], [0.4, 0.7]], "references": [[1, 0], [1, 1]]},
    ),
    "regression_scores": ("RegressionScores", {"predictions": [1.0, 3.0], "references": [1.0, 2.0]}),
}
"""Name → class in `hfk.evaluation.modules` and an example of its arguments."""
PACKAGES = {"sklearn": "scikit-learn>=1.6", "numpy": "numpy>=2.0", "torch": "torch>=2.6", "datasets": "datasets>=5.2"}
GRADIO = "6.31.0"


def push_space(folder: str | Path, target: Target, api: HfApi | None = None, checkpoints: Sequence[str] = ()) -> Pushed:
    """Send a folder as a Space, in one commit.

    Args:
        folder: with a README.md whose front matter has `sdk`, and what it names.
        target: where to.
        api: the client; one with the saved token by default.
        checkpoints: `owner/name@revision` of checkpoints on the Hub; the front matter that is sent names them as
            `models` and, pinned to their commits, as `preload_from_hub`: the Hub then fetches them when it builds the
            Space, and the studio offers them.

    Raises:
        ValueError: if the folder is no Space, a checkpoint is not there, or for what `commit` refuses.
        ConnectionError: if the Hub can't be reached, or fails.
    """
    files, _ = plan_space(folder)
    if checkpoints:
        readme = _with_checkpoints(Path(folder) / "README.md", checkpoints, api or HfApi())
        files = [PlannedFile(file.path, readme) if file.path == "README.md" else file for file in files]
    return commit(target, files, repo_type="space", space_sdk=_front_matter(Path(folder))["sdk"], api=api)


def plan_space(folder: str | Path) -> tuple[list[PlannedFile], dict[str, str]]:
    """Check a Space's folder and list what of it would be sent; nothing is.

    hfk's source goes along as the folder `hfk/` if the app imports it and requirements.txt does not name it.

    Args:
        folder: as for `push_space`.

    Returns:
        the files, and path → reason of what stays here.

    Raises:
        ValueError: naming what the front matter lacks.
    """
    folder = Path(folder)
    front = _front_matter(folder)
    sdk = front.get("sdk")
    if sdk not in SDKS:
        raise ValueError(f"{folder / 'README.md'}: sdk is {sdk!r} in the front matter; write one of {', '.join(SDKS)}.")
    if sdk == "gradio" and not re.fullmatch(r"\d+\.\d+(\.\d+)?", str(front.get("sdk_version"))):
        raise ValueError(f'{folder / "README.md"}: write sdk_version in the front matter, such as "{GRADIO}".')
    needed = {"gradio": front.get("app_file", "app.py"), "docker": "Dockerfile", "static": "index.html"}[sdk]
    if sdk == "static":
        needed = front.get("app_file", needed)
    if not (folder / needed).is_file():
        raise ValueError(f"{folder} has no {needed}, which its README.md names as the app: write it, or mend app_file.")
    files, left_out = [], {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        reason = _stays(path.relative_to(folder).parts)
        if reason:
            left_out[name] = reason
        else:
            files.append(PlannedFile(name, path))
    return files + _hfk_for(folder, files), left_out


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


def _hfk_for(folder: Path, files: list[PlannedFile]) -> list[PlannedFile]:
    """hfk's own source, for an app that imports it and neither brings nor installs it.

    The Space then runs the very code that its author tried, whether or not that is released.
    """
    sources = [file.source for file in files if file.path.endswith(".py")]
    uses = any(re.search(r"^\s*(?:from|import) hfk\b", path.read_text(encoding="utf-8"), re.M) for path in sources)
    requirements = folder / "requirements.txt"
    installs = requirements.is_file() and re.search(r"^hfk\b", requirements.read_text(encoding="utf-8"), re.M)
    if not uses or installs or any(file.path.startswith("hfk/") for file in files):
        return []
    package = Path(__file__).resolve().parents[1]
    found = (path for path in sorted(package.rglob("*")) if path.is_file())
    named = ((path, path.relative_to(package)) for path in found)
    return [PlannedFile(f"hfk/{name.as_posix()}", path) for path, name in named if not _stays(name.parts)]


def push_metric(name: str, target: Target, api: HfApi | None = None) -> Pushed:
    """Send one of hfk's metrics as a Space, from which `evaluate.load("owner/name")` loads it.

    Args:
        name: of `METRICS`.
        target: where to; the repository's name becomes a module's name, so it has no dashes or dots.
        api: the client; one with the saved token by default.

    Raises:
        ValueError: for an unknown metric, a name that is no module's, or what `commit` refuses.
        ConnectionError: if the Hub can't be reached, or fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / target.repo_id.split("/")[-1]
        write_metric(name, folder)
        return push_space(folder, target, api)


def write_metric(name: str, folder: str | Path) -> None:
    """Write the folder of a metric's Space; `evaluate.load(folder)` loads it too.

    Args:
        name: of `METRICS`.
        folder: folder to make; its name becomes the module's.

    Raises:
        ValueError: for an unknown metric, or a folder's name that is no module's.
    """
    folder = Path(folder)
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}; metrics: {', '.join(METRICS)}.")
    if not folder.name.isidentifier():
        raise ValueError(
            f"{folder.name!r} can't name a metric, as a module: use letters, digits and '_', such as {name}."
        )
    class_name, example = METRICS[name]
    source, packages = metric_source(class_name)
    description = re.search(r'description = "([^"]+)"', source[source.index(f"class {class_name}(") :])[1]
    requirements = ["evaluate>=0.4.6", *(PACKAGES[package] for package in packages if package in PACKAGES)]
    texts = {
        f"{folder.name}.py": source,
        "app.py": _APP.format(module=folder.name, example=_one_line_a_key(example)),
        "requirements.txt": "\n".join(requirements) + "\n",
        "README.md": _README.format(
            title=name.replace("_", " ").capitalize(),
            description=description,
            short=description.rstrip(".")[:60],
            gradio=GRADIO,
            example=json.dumps(example, ensure_ascii=False),
            module=folder.name,
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def metric_source(class_name: str) -> tuple[str, list[str]]:
    """Write a metric of `hfk.evaluation.modules` as one file that needs no hfk.

    Args:
        class_name: such as `MultiHeadAccuracy`.

    Returns:
        the source, and the names of the packages it imports.
    """
    collected = _Collected()
    collected.add("hfk.evaluation.modules", class_name)
    bases = [name for name in collected.definitions if name.startswith("_") and f"({name})" in collected.class_lines]
    parts = [
        f'"""{class_name} of hfk (Apache-2.0), with everything of hfk that it uses."""',
        "from __future__ import annotations",
        "\n".join(sorted(collected.imports, key=lambda line: (line.startswith("from"), line))),
        *collected.definitions.values(),
        *(f"del {name}  # evaluate takes the first metric class that it finds" for name in bases),
    ]
    packages = sorted({line.split()[1].split(".")[0] for line in collected.imports})
    return "\n\n".join(parts) + "\n", packages


class _Collected:
    """Definitions of hfk's modules by name, what they use before what uses it, and their imports."""

    def __init__(self) -> None:
        self.definitions: dict[str, str] = {}
        self.imports: set[str] = set()
        self.class_lines = ""
        self._origin: dict[str, str] = {}

    def add(self, module: str, name: str) -> None:
        if self._origin.get(name) == module:
            return
        text, own, imported = _read_module(module)
        if name in own:
            if name in self._origin:
                raise ValueError(f"two modules define {name}: {self._origin[name]} and {module}; rename one of them.")
            self._origin[name] = module
            node = own[name]
            for part in ast.walk(node):
                if isinstance(part, ast.Name):
                    self.add(module, part.id)
            start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
            lines = text.splitlines()[start - 1 : node.end_lineno]
            self.definitions[name] = "\n".join(lines)
            if isinstance(node, ast.ClassDef):
                self.class_lines += f"{lines[node.lineno - start]}\n"
        elif name in imported:
            source, statement = imported[name]
            if source is None:
                self.imports.add(statement)
            else:
                self.add(source, name)


def _read_module(module: str) -> tuple[str, dict[str, ast.stmt], dict[str, tuple[str | None, str]]]:
    """A module's text, its own top-level definitions, and its imports: name → (module of hfk or None, statement)."""
    text = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    own: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[str | None, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            own[node.targets[0].id] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported[alias.asname or alias.name] = (None, f"import {ast.unparse(alias)}")
        elif isinstance(node, ast.ImportFrom):
            source = None
            if node.level:
                source = importlib.util.resolve_name("." * node.level + node.module, module.rpartition(".")[0])
            for alias in node.names:
                imported[alias.asname or alias.name] = (source, f"from {node.module} import {ast.unparse(alias)}")
    return text, own, imported


def _one_line_a_key(example: dict[str, Any]) -> str:
    return (
        "{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in example.items())
        + "\n}"
    )


def _front_matter(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    if not readme.is_file():
        raise ValueError(f"{folder} has no README.md with a Space's front matter (title, sdk, sdk_version, app_file).")
    try:
        return RepoCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{readme}: the front matter is no YAML of options; mend it.") from None


def _stays(parts: tuple[str, ...]) -> str | None:
    if any(part.startswith(".") and part not in HIDDEN_KEPT for part in parts):
        return "hidden"
    if any(part in LEFT_BEHIND for part in parts) or parts[-1].endswith((".pyc", ".part")):
        return "made while running"
    return "a pickle could run any code when it is read" if parts[-1].endswith(PICKLES) else None


_README = """---
title: {title}
emoji: 📏
colorFrom: indigo
colorTo: gray
sdk: gradio
sdk_version: "{gradio}"
app_file: app.py
python_version: "3.11"
license: apache-2.0
short_description: {short}
tags: [evaluate, metric, hfk]
---

# {title}

{description}

```python
import evaluate

metric = evaluate.load("owner/{module}", revision="<commit>")  # this Space
metric.compute(**{example})
```
"""

_APP = '''"""A page to try the metric: its arguments as JSON in, its scores out."""

from __future__ import annotations

import json
import sys

import evaluate
import gradio as gr

EXAMPLE = """{example}"""
MAX_CHARACTERS = 1_000_000
metric = evaluate.load("{module}.py")


def compute(arguments: str) -> dict:
    """Compute the metric; what is wrong with the arguments is shown."""
    if len(arguments) > MAX_CHARACTERS:
        raise gr.Error(f"There are more than {{MAX_CHARACTERS:,}} characters.")
    try:
        given = json.loads(arguments)
        if "heads" in given:
            heads = sys.modules[type(metric).__module__].HeadConfig
            given["heads"] = [heads(**head) for head in given["heads"]]
        return metric.compute(**given)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise gr.Error(f"That can't be computed: {{error}}") from error


demo = gr.Interface(
    fn=compute,
    inputs=gr.Code(value=EXAMPLE, language="json", label="arguments"),
    outputs=gr.JSON(label="scores"),
    title=metric.name,
    description=metric.info.description,
    api_name="compute",
)

if __name__ == "__main__":
    demo.launch()
'''
