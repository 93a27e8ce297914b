"""`hfk data push`: a task's rows to the Hub as a data set, with features, splits and a card.

`datasets` writes Parquet with the pictures inside, in one commit, and the front matter that tells its features; the
card adds what a reader asks: the columns, the label tree, and how many rows each label has in each split. The rows are
the user's, so the license must be said; local paths of pictures stay here.
"""

from __future__ import annotations

from pathlib import Path

from datasets import DatasetDict, Image
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi

from ..models.configuration_multihead import HeadConfig
from ..runs.card import label_tree, md
from ..tasks import Task
from ..tasks.labels import label_arrays
from .publishing import Pushed, Target, clear_errors, open_repository, validate_card

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
TEMPLATE = Path(__file__).with_name("dataset_card_template.md")
PROBLEMS = {"single_label": "one label", "multi_label": "any number of labels", "regression": "a number"}


def push_dataset(task: Task, target: Target, license: str, api: HfApi | None = None) -> Pushed:
    """Load a task's rows and send them as a data set; `license` is the rows', by the Hub's name.

    Errors are those of `load_task` and of `publishing.commit`.
    """
    api = api or HfApi()
    rows = publishable(task.load())
    card = dataset_card(task, rows, target.repo_id, license)
    with clear_errors(api, target.repo_id, write=True):
        validate_card(api, str(card), "dataset")
        open_repository(api, target, "dataset")
        made = rows.push_to_hub(
            target.repo_id,
            commit_message=target.message or f"Push {sum(map(len, rows.values())):,} rows with hfk",
            revision=target.revision,
            create_pr=target.create_pr,
            token=api.token,
        )
        branch = made.pr_revision or target.revision
        # What `datasets` has written there tells how to read the files: it is kept.
        written = DatasetCard.load(
            api.hf_hub_download(target.repo_id, "README.md", repo_type="dataset", revision=made.oid)
        )
        card.data = DatasetCardData(**(card.data.to_dict() | written.data.to_dict()))
        last = api.create_commit(
            target.repo_id,
            [CommitOperationAdd("README.md", str(card).encode())],
            commit_message="Write the card",
            repo_type="dataset",
            revision=branch,
            parent_commit=made.oid,
        )
    return Pushed(target.repo_id, made.pr_url or last.commit_url, last.oid)


def publishable(rows: DatasetDict) -> DatasetDict:
    """Give the rows the features that readers expect: pictures that decode themselves."""
    if "image" in next(iter(rows.values())).column_names:
        return rows.cast_column("image", Image())
    return rows


def dataset_card(task: Task, rows: DatasetDict, repo_id: str, license: str) -> DatasetCard:
    """Build the card of a task's rows by split."""
    count = sum(map(len, rows.values()))
    kinds = [kind for kind, there in (("text", task.text), ("image", task.image)) if there]
    data = DatasetCardData(
        language=["ko"],
        license=license,
        task_categories=[f"{kind}-classification" for kind in kinds],
        size_categories=next((name for limit, name in SIZES if count < limit), "n>1M"),
        pretty_name=task.name,
        tags=["hfk", "multi-head-classification"],
    )
    return DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        md=md,
        task=task,
        rows=rows,
        kinds=kinds,
        problems=PROBLEMS,
        repo=repo_id,
        tree=label_tree(task.heads),
        counts=[(head.name, *_counts(rows, head)) for head in task.heads],
    )


def _counts(rows: DatasetDict, head: HeadConfig) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a head's table: rows of each label and split, or the range of a number."""
    known, unknown = {}, []
    for name, part in rows.items():
        present, target = head.rules.read(label_arrays(part, [head])[head.name])
        known[name] = target[present]
        unknown.append(f"{int((~present).sum()):,}")
    if not head.rules.has_labels:
        ends = {name: (v.min(), v.mean(), v.max()) if len(v) else () for name, v in known.items()}
        body = [[name, f"{len(v):,}", *(f"{end:g}" for end in ends[name])] for name, v in known.items()]
        return ["split", "known", "least", "mean", "greatest"], body
    counts = [head.rules.counts(target) for target in known.values()]
    body = [[md(label), *(f"{count[index]:,}" for count in counts)] for index, label in enumerate(head.labels)]
    return ["label", *known], [*body, ["(unknown)", *unknown]]
