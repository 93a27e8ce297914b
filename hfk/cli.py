"""The `hfk` command: thin; each subcommand calls one function of a room.

Whatever goes wrong with input is one sentence on standard error and exit code 2; `HFK_DEBUG=1` shows the traceback.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Korean multi-head classification over text, images and both.",
)
backbones_app = typer.Typer(no_args_is_help=True, help="Pretrained encoders that come as PyPI packages.")
app.add_typer(backbones_app, name="backbones")
data_app = typer.Typer(no_args_is_help=True, help="A task's rows.")
app.add_typer(data_app, name="data")
metrics_app = typer.Typer(no_args_is_help=True, help="hfk's metrics, for `evaluate.load`.")
app.add_typer(metrics_app, name="metrics")
space_app = typer.Typer(no_args_is_help=True, help="Spaces: apps on the Hub.")
app.add_typer(space_app, name="space")

RepoId = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")]
Private = Annotated[
    bool | None, typer.Option("--private/--public", help="Of a new repository; the owner's default without.")
]
Branch = Annotated[str | None, typer.Option("--revision", help="Branch to commit to, made if needed; main by default.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing to main.")]
Message = Annotated[str | None, typer.Option(help="Commit message.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")]


@app.command("tasks")
def tasks_command() -> None:
    """List the built-in tasks."""
    from .tasks import list_tasks

    _print_columns(list(list_tasks().items()))


@app.command("recipes")
def recipes_command() -> None:
    """List the built-in training recipes."""
    from .training.arguments import list_recipes, load_recipe

    for name in list_recipes():
        options = load_recipe(name)
        encoders = [options[key] for key in ("text_encoder", "vision_encoder") if options.get(key)]
        _print_columns([(name, f"task {options['task'] or '(a table)'}, {' + '.join(encoders)}")], width=16)


@backbones_app.command("list")
def backbones_list() -> None:
    """List the packaged encoders. Hub ids and local folders work in the same places."""
    from .hub.backbones import PACKAGED

    _print_columns([(name, f"{b.kind}, {b.licence}: {b.description}") for name, b in PACKAGED.items()])


@backbones_app.command("prepare")
def backbones_prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Packaged names; all by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again, even if it is there.")] = False,
) -> None:
    """Turn packaged weights into ordinary checkpoint folders in the cache."""
    from .hub.backbones import PACKAGED, prepare

    for name in names or list(PACKAGED):
        typer.echo(f"{name}  {prepare(name, force=force)}")


@app.command("init")
def init_command(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet file, or a folder of pictures by class.")],
    output: Annotated[Path | None, typer.Option(help="YAML to write; beside the table by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the YAML if it exists.")] = False,
) -> None:
    """Look at a table and write the YAML of a task for it, commented, to be checked and trained on."""
    from .tasks import inspect_table

    target = output or table.with_suffix(".yaml")
    if target.exists() and not force:
        raise ValueError(f"{target} exists already; choose another --output, or replace it with --force.")
    target.write_text(inspect_table(table, target.parent), encoding="utf-8")
    typer.echo(f"wrote {target}: read it, correct it, then: hfk train {target} --output-dir runs/{target.stem}")


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="Built-in recipe (see `hfk recipes`), or a recipe's or task's YAML.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value, such as learning_rate=2e-4: an option of hfk.training.arguments or of transformers' "
            "TrainingArguments."
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/hfk"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew instead of resuming an interrupted run.")] = False,
) -> None:
    """Train, evaluate, and write the checkpoint with its report. The same command resumes an interrupted run."""
    from .training.arguments import parse_overrides
    from .training.run import train

    overrides = parse_overrides(options or [])
    if not sys.stderr.isatty():
        overrides.setdefault("disable_tqdm", True)
    results = train(recipe, output_dir, overrides, resume=not fresh)
    if results:
        typer.echo(f"\ncheckpoint: {output_dir}    report: {output_dir / 'report' / 'report.html'}")


@app.command("evaluate")
def evaluate_command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    data: Annotated[str, typer.Option(help="Table with the label columns that the checkpoint was trained on.")],
    image_dir: Annotated[
        Path | None, typer.Option(help="What picture paths are relative to; the table's folder by default.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the report; CHECKPOINT/report-FILE by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a forward pass.")] = 64,
    revision: Annotated[str | None, typer.Option(help="Commit of a Hub checkpoint.")] = None,
) -> None:
    """Score a checkpoint on labelled rows and write a report."""
    from .inference.evaluation import evaluate

    if output_dir is None:
        output_dir = (Path(checkpoint) if Path(checkpoint).is_dir() else Path()) / f"report-{Path(data).stem}"
    table = evaluate(checkpoint, data, output_dir, image_dir=image_dir, batch_size=batch_size, revision=revision)
    if table:
        typer.echo(f"{table}\n\nreport: {output_dir / 'report.html'}")


@app.command("predict")
def predict_command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, TSV, JSONL or Parquet file.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="File to write, format by suffix.")],
    text: Annotated[list[str] | None, typer.Option(help="Text column; repeat for several.")] = None,
    image: Annotated[str | None, typer.Option(help="Picture column.")] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="What picture paths are relative to; the table's folder by default.")
    ] = None,
    head: Annotated[list[str] | None, typer.Option(help="Head to write; repeat for several; all by default.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave answers below this probability out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a forward pass.")] = 32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit of a Hub checkpoint.")] = None,
) -> None:
    """Classify every row of a table: the input's columns, then H_pred and H_score for each head H, then error."""
    from tqdm import tqdm

    from .inference.predictor import Predictor
    from .inference.table import predict_table, read_task_file

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("predict runs in one process: start it without several, as each would write the same file.")
    if not source.is_file():
        raise FileNotFoundError(f"input file {source} does not exist.")
    predictor = Predictor.from_pretrained(checkpoint, device, dtype, batch_size, revision=revision)
    columns = read_task_file(checkpoint, revision)
    with tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar:
        counts = predict_table(
            predictor,
            source,
            target,
            text=text,
            image=image,
            image_dir=image_dir,
            heads=head,
            threshold=threshold,
            columns=columns,
            on_rows=bar.update,
        )
    wrong = f", {counts['errors']} with an error (see the column `error`)" if counts["errors"] else ""
    typer.echo(f"wrote {target}: {counts['rows']} rows{wrong}")


@app.command("push")
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


@app.command("pull")
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
        from .training.trainer import fetch_checkpoint

        typer.echo(f"{fetch_checkpoint(repo_id, output_dir, revision=revision)}: the same `hfk train` goes on from it")
        return
    from .hub.publishing import pull

    commit = pull(repo_id, output_dir, revision, allow_foreign_code)
    pinned = "" if revision == commit else f"; to have the same again, say --revision {commit}"
    typer.echo(f"{output_dir}: {repo_id} at {commit}{pinned}")


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint that reads text alone, or images alone.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    head: Annotated[str, typer.Option(help="The head to keep.")],
    task: Annotated[str, typer.Option("--as", help="sequence-classification or image-classification.")],
) -> None:
    """Write one head as a stock transformers classifier: the same logits without custom code, where possible."""
    from .hub.export import export

    export(checkpoint, output, head, task)
    typer.echo(f"wrote {output}: a stock model for {task}; `hf upload OWNER/NAME {output}` sends it to the Hub")


@data_app.command("push")
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
    from .hub.dataset_publishing import push_dataset
    from .tasks import load_task

    target = Target(repo_id, private, revision, create_pr, message)
    pushed = push_dataset(load_task(task, **({"data": data} if data else {})), target, licence)
    typer.echo(f'{pushed.url}\n\nload_dataset("{repo_id}", revision="{pushed.sha}")')


@metrics_app.command("list")
def metrics_list() -> None:
    """List the metrics."""
    from .hub.spaces import METRICS

    for name in METRICS:
        typer.echo(name)


@metrics_app.command("push")
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


@space_app.command("push")
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


def main(arguments: list[str] | None = None) -> None:
    """Run the command; the entry point of `hfk` and of the scripts.

    Args:
        arguments: the words after `hfk`; those of the process by default.
    """
    if not sys.stderr.isatty():  # before any library reads it
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        from transformers.utils import logging

        logging.disable_progress_bar()
    show = warnings.showwarning
    warnings.showwarning = lambda message, category, *rest: (
        typer.echo(f"hfk: {message}", err=True) if category is UserWarning else show(message, category, *rest)
    )
    try:
        app(args=arguments, prog_name="hfk")
    except SystemExit as end:
        if end.code == 130:  # typer has caught the KeyboardInterrupt
            typer.echo("hfk: interrupted; the same command resumes a training run.", err=True)
        raise
    except (ValueError, OSError, ImportError, KeyError, json.JSONDecodeError) as error:
        if os.environ.get("HFK_DEBUG"):
            raise
        message = str(error.args[0] if isinstance(error, KeyError) else error)
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}."
        message = " ".join(message.split())
        typer.echo(f"hfk: {message}", err=True)
        sys.exit(2)
    finally:
        warnings.showwarning = show


def _print_columns(rows: list[tuple[str, str]], width: int | None = None) -> None:
    width = width or max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        typer.echo(f"{name:{width}}{text}")


if __name__ == "__main__":
    main()
