"""The subcommands of `hfk` that send to the Hub, fetch from it, or make something for elsewhere; see cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RepoId = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")]
Private = Annotated[
    bool | None, typer.Option("--private/--public", help="Of a new repository; the owner's default without.")
]
Branch = Annotated[str | None, typer.Option("--revision", help="Branch to commit to, made if needed; main by default.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing to main.")]
Message = Annotated[str | None, typer.Option(help="Commit message.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")]


def push_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a finished run or a saved checkpoint.")],
    repo_id: RepoId,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
    dry_run: DryRun = False,
) -> None:
    """Send a checkpoint to the Hub in one commit: weights, processor, the code it needs, card, endpoint handler."""
    from .hub.commits import Target, list_plan
    from .hub.publishing import plan_push, push

    target = Target(repo_id, private, revision, create_pr, message)
    if dry_run:
        plan = plan_push(checkpoint, repo_id)
        typer.echo(list_plan(plan.files, plan.left_out))
        return
    pushed = push(checkpoint, target)
    typer.echo(f"{pushed.url}\n\nIt runs anywhere, pinned, with:")
    typer.echo(
        f'pipeline("multi-head-classification", model="{repo_id}", revision="{pushed.sha}", trust_remote_code=True)'
    )


def pull_command(
    repo_id: RepoId,
    output_dir: Annotated[Path, typer.Option(help="Folder to make.")],
    revision: Annotated[str | None, typer.Option(help="Commit (best), tag or branch; main by default.")] = None,
    allow_foreign_code: Annotated[
        bool, typer.Option("--allow-foreign-code", help="Accept code from other repositories, and Hub kernels.")
    ] = False,
    training_state: Annotated[
        bool,
        typer.Option("--training-state", help="Fetch what hub_strategy=checkpoint pushed, to go on training from it."),
    ] = False,
) -> None:
    """Fetch a checkpoint from the Hub, checked before anything of it is loaded."""
    if training_state:
        from .hub.training_checkpoints import fetch_checkpoint

        typer.echo(f"{fetch_checkpoint(repo_id, output_dir, revision=revision)}: the same `hfk train` goes on from it")
        return
    from .hub.publishing import pull

    commit = pull(repo_id, output_dir, revision, allow_foreign_code)
    pinned = "" if revision == commit else f"; to have the same again, say --revision {commit}"
    typer.echo(f"{output_dir}: {repo_id} at {commit}{pinned}")


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint that reads text alone, or images alone.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    head: Annotated[str, typer.Option(help="The head to keep.")],
    task: Annotated[str, typer.Option("--as", help="sequence-classification or image-classification.")],
) -> None:
    """Write one head as a stock transformers classifier: the same logits without custom code, where possible."""
    from .tools.export import export

    export(checkpoint, output, head, task)
    typer.echo(f"wrote {output}: a stock model for {task}; `hf upload OWNER/NAME {output}` sends it to the Hub")


def data_push_command(
    task: Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`) or a task's YAML.")],
    repo_id: RepoId,
    licence: Annotated[str, typer.Option(help="Of the rows, as the Hub calls it: cc-by-4.0, other, …")],
    data: Annotated[str | None, typer.Option(help="File of the rows, in place of the task's own.")] = None,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
) -> None:
    """Send a task's rows to the Hub: features, splits, pictures and a card with the counts of every label."""
    from .hub.commits import Target
    from .hub.datasets import push_dataset
    from .tasks import load_task

    target = Target(repo_id, private, revision, create_pr, message)
    pushed = push_dataset(load_task(task, **({"data": data} if data else {})), target, licence)
    typer.echo(f'{pushed.url}\n\nload_dataset("{repo_id}", revision="{pushed.sha}")')


def metrics_push_command(
    repo_id: RepoId,
    metric: Annotated[str, typer.Option(help="Which one; see `hfk metrics list`.")],
    private: Private = None,
    message: Message = None,
) -> None:
    """Send a metric as a Space, from which evaluate.load("owner/name") loads it."""
    from .hub.commits import Target
    from .hub.spaces import push_metric

    pushed = push_metric(metric, Target(repo_id, private, message=message))
    typer.echo(f'{pushed.url}\n\nevaluate.load("{repo_id}", revision="{pushed.sha}")')


def space_push_command(
    folder: Annotated[Path, typer.Argument(help="With app, requirements.txt, and README.md with its front matter.")],
    repo_id: RepoId,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
    dry_run: DryRun = False,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="owner/name@revision of a checkpoint that the Space preloads and offers; may be repeated."),
    ] = None,
) -> None:
    """Send a folder as a Space, in one commit."""
    from .hub.commits import Target, list_plan
    from .hub.spaces import plan_space, push_space

    target = Target(repo_id, private, revision, create_pr, message)
    if dry_run:
        typer.echo(list_plan(*plan_space(folder)))
        return
    typer.echo(push_space(folder, target, checkpoints=checkpoint or ()).url)
