"""The `hfk` command: thin; each subcommand calls one function of a room.

Whatever goes wrong with input is one sentence on standard error and exit code 2; `HFK_DEBUG=1` shows the traceback.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_hub

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


@app.command("tasks")
def tasks_command() -> None:
    """List the built-in tasks."""
    from .tasks import list_tasks

    _print_columns(list(list_tasks().items()))


@app.command("recipes")
def recipes_command() -> None:
    """List the built-in training recipes."""
    from .runs.recipe import list_recipes, load_recipe

    for name in list_recipes():
        options = load_recipe(name)
        encoders = [options[key] for key in ("text_encoder", "vision_encoder") if options.get(key)]
        _print_columns([(name, f"task {options['task'] or '(a table)'}, {' + '.join(encoders)}")], width=16)


@backbones_app.command("list")
def backbones_list() -> None:
    """List the packaged encoders. Hub ids and local folders work in the same places."""
    from .backbones.registry import PACKAGED

    _print_columns([(name, f"{b.kind}, {b.licence}: {b.description}") for name, b in PACKAGED.items()])


@backbones_app.command("prepare")
def backbones_prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Packaged names; all by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again, even if it is there.")] = False,
) -> None:
    """Turn packaged weights into ordinary checkpoint folders in the cache."""
    from .backbones.registry import PACKAGED, prepare

    for name in names or list(PACKAGED):
        typer.echo(f"{name}  {prepare(name, force=force)}")


@app.command("init")
def init_command(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet file, or a folder of pictures by class.")],
    output: Annotated[Path | None, typer.Option(help="YAML to write; beside the table by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the YAML if it exists.")] = False,
) -> None:
    """Look at a table and write the YAML of a task for it, commented, to be checked and trained on."""
    from .tools.init import inspect_table

    target = output or table.with_suffix(".yaml")
    if target.exists() and not force:
        raise ValueError(f"{target} exists already; choose another --output, or replace it with --force.")
    target.write_text(inspect_table(table, target.parent), encoding="utf-8")
    typer.echo(f"wrote {target}: read it, correct it, then: hfk train {target} --output-dir runs/{target.stem}")


@app.command("tokenizer")
def tokenizer_command(
    task: Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`) or a task's YAML.")],
    output_dir: Annotated[Path, typer.Option(help="Folder to make; a recipe's `tokenizer:` may name it.")],
    kind: Annotated[str, typer.Option(help="wordpiece, bpe, unigram, character or jamo.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(help="Most pieces.")] = 8000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Take capital letters for small ones.")] = False,
    data: Annotated[str | None, typer.Option(help="File of the rows, in place of the task's own.")] = None,
) -> None:
    """Train a tokenizer on a task's training texts, for an encoder that starts from nothing."""
    from .training.tokenizer_training import train_task_tokenizer

    facts = train_task_tokenizer(task, output_dir, kind, vocab_size, data, lowercase)
    typer.echo(
        f"wrote {output_dir}: {facts['pieces']:,} pieces; {facts['split']}: {facts['tokens']:.1f} tokens a text, "
        f"{facts['unknown']:.2%} of them unknown"
    )


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="Built-in recipe (see `hfk recipes`), or a recipe's or task's YAML.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value, such as learning_rate=2e-4: an option of hfk.runs.recipe or of transformers' "
            "TrainingArguments."
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/hfk"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew instead of resuming an interrupted run.")] = False,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Cross-validate: one run a fold, out-of-fold predictions and their report, and the ensemble."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="With --folds: train every fold with each of these seeds.")
    ] = None,
) -> None:
    """Train, evaluate, and write the checkpoint with its report. The same command resumes an interrupted run."""
    from .runs.recipe import parse_overrides
    from .training.train import train

    overrides = parse_overrides(options or [])
    if not sys.stderr.isatty():
        overrides.setdefault("disable_tqdm", True)
    if seeds and not folds:
        raise ValueError("--seeds goes with --folds; for one run say seed=1.")
    if folds:
        from .training.folds import train_folds

        if train_folds(recipe, output_dir, folds, _numbers(seeds, "--seeds"), overrides, resume=not fresh):
            report = output_dir / "report" / "report.html"
            typer.echo(f"\nensemble: {output_dir / 'ensemble'}    out-of-fold report: {report}")
        return
    results = train(recipe, output_dir, overrides, resume=not fresh)
    if results:
        typer.echo(f"\ncheckpoint: {output_dir}    report: {output_dir / 'report' / 'report.html'}")


@app.command("ensemble")
def ensemble_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Folders of finished runs of the same heads.")],
    output_dir: Annotated[Path, typer.Option(help="Folder to make.")],
    fit_on: Annotated[
        str | None,
        typer.Option(
            help="Labelled rows to fit the members' weights on, or to choose a soup's runs by: a table, or "
            "`validation` for the validation rows of the runs' common task. Weights are equal by default."
        ),
    ] = None,
    soup: Annotated[
        str | None,
        typer.Option(
            help="Average the weights instead of the answers, of runs of one architecture: uniform or greedy."
        ),
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
    options: Annotated[list[str] | None, typer.Argument(help="key=value, as for `hfk train`.")] = None,
    student: Annotated[
        str | None, typer.Option(help="The student's recipe, or a recipe's or task's YAML; the teacher's by default.")
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/student"),
    temperature: Annotated[float | None, typer.Option(help="Softens both sides' probabilities; 2 by default.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Weight of the teacher's answer where there is a label; 0.5 by default.")
    ] = None,
    hidden_weight: Annotated[
        float | None, typer.Option(help="Weight of the cosine distance of the embeddings; 0 by default.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="1,5,9",
            help="Make the student's encoder of the teacher's embeddings and these of its layers, counted from 0.",
        ),
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="FILE", help="Table of texts without labels for the teacher to answer.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Text column of that table; the task's own by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew instead of resuming an interrupted run.")] = False,
) -> None:
    """Train a student by what a teacher answers. The same command resumes an interrupted run."""
    from .runs.recipe import parse_overrides
    from .training.students import student_recipe
    from .training.train import train

    overrides = parse_overrides(options or [])
    if not sys.stderr.isatty():
        overrides.setdefault("disable_tqdm", True)
    given = {
        "temperature": temperature,
        "alpha": alpha,
        "hidden": hidden_weight,
        "layers": _numbers(layers, "--layers"),
        "unlabelled": unlabelled,
        "unlabelled_text": text,
    }
    overrides |= {f"distillation.{name}": value for name, value in given.items() if value is not None}
    if train(student_recipe(teacher, student, overrides), output_dir, resume=not fresh):
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
    from .runs.evaluation import evaluate

    if output_dir is None:
        output_dir = (Path(checkpoint) if Path(checkpoint).is_dir() else Path()) / f"report-{Path(data).stem}"
    table = evaluate(checkpoint, data, output_dir, image_dir=image_dir, batch_size=batch_size, revision=revision)
    if table:
        typer.echo(f"{table}\n\nreport: {output_dir / 'report.html'}")


@app.command("calibrate")
def calibrate_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a finished run, an ensemble or a checkpoint.")],
    data: Annotated[
        str | None, typer.Option(help="Labelled table that it has not seen; its own validation rows by default.")
    ] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="What picture paths are relative to; the table's folder by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a forward pass.")] = 64,
) -> None:
    """Fit every head's temperature, so that its probabilities mean what they say; answers stay as they are."""
    from .runs.score import calibrate_checkpoint

    typer.echo(calibrate_checkpoint(checkpoint, data, image_dir, batch_size))


@app.command("audit")
def audit_command(
    run: Annotated[Path, typer.Argument(help="Folder that `hfk train --folds` wrote, or its out_of_fold.parquet.")],
    output_dir: Annotated[Path | None, typer.Option(help="Folder to write to; RUN/audit by default.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of the rows; what the run's recipe says by default.")] = None,
    data: Annotated[str | None, typer.Option(help="The task's data file; likewise.")] = None,
    max_given: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Propose to correct labels of at most this out-of-fold probability."),
    ] = 0.02,
) -> None:
    """List labels that are probably wrong: a table, a page to review them, and a corrections.csv of the clearest."""
    from .tools.audit import audit

    typer.echo(audit(run, output_dir, task, data, max_given))


@app.command("search")
def search_command(
    recipe: Annotated[str, typer.Argument(help="Built-in recipe, or a recipe's or task's YAML.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=low:high, key=low:high:log or key=a|b to search (learning rates, label smoothing, weight decay "
            "and epochs around the recipe's own by default); key=value for every trial."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those that the folder holds included.")] = 20,
    output_dir: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("runs/search"),
) -> None:
    """Search for better options on the validation rows. The same command goes on with an interrupted search."""
    from .runs.recipe import parse_overrides
    from .tools.search import parse_ranges, search

    ranges, others = parse_ranges(options or [])
    typer.echo(f"\n{search(recipe, output_dir, trials, ranges, _quiet(parse_overrides(others)))}")
    typer.echo(f"\nbest recipe: {output_dir / 'best.yaml'}    trials: {output_dir / 'trials.png'}")


@app.command("ladder")
def ladder_command(
    task: Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`) or a task's YAML.")],
    recipes: Annotated[str, typer.Option(metavar="A,B,C", help="Recipes to compare, built-in names or YAMLs.")],
    options: Annotated[list[str] | None, typer.Argument(help="key=value for every recipe, such as data=FILE.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Train each recipe with each; its own seed by default.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Head to compare; the finest by default.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the runs and the table.")] = Path("runs/ladder"),
) -> None:
    """Train several recipes on the same rows and compare quality, size, training time and speed in one table."""
    from .runs.recipe import parse_overrides
    from .tools.ladder import climb

    names = [name.strip() for name in recipes.split(",") if name.strip()]
    overrides = _quiet(parse_overrides(options or []))
    typer.echo(f"\n{climb(task, names, output_dir, _numbers(seeds, '--seeds'), overrides, head)}")
    typer.echo(f"\ntable: {output_dir / 'ladder.md'}    picture: {output_dir / 'ladder.png'}")


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
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='Below this probability an answer, and what lies under it, is "other": empty.'),
    ] = None,
    paths: Annotated[int | None, typer.Option(min=1, help="Also list this many whole paths, in a column.")] = None,
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
            min_score=min_score,
            paths=paths,
        )
    wrong = f", {counts['errors']} with an error (see the column `error`)" if counts["errors"] else ""
    typer.echo(f"wrote {target}: {counts['rows']} rows{wrong}")


@app.command("explain")
def explain_command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    text: Annotated[str | None, typer.Option(help="The text.")] = None,
    image: Annotated[str | None, typer.Option(help="The picture's file.")] = None,
    head: Annotated[str | None, typer.Option(help="Head to explain; the last one by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Label to explain; the answer by default.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Page (.html), heat map (.png) or numbers (.json); on the screen without.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Points at which gradients are taken; more are more exact.")] = 64,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a Hub checkpoint.")] = None,
) -> None:
    """Say why: how much each word and each patch of the picture moved one head's answer."""
    from .inference.predictor import Predictor
    from .tools.explain import explain
    from .tools.explain_page import check_target, summarise, write_explanation

    if output is not None:
        check_target(output)
    predictor = Predictor.from_pretrained(checkpoint, device, "float32", revision=revision)
    explanation = explain(predictor, text, image, head, label, steps)
    if output is None:
        typer.echo(json.dumps(explanation.to_dict(), ensure_ascii=False))
        return
    write_explanation(explanation, output, Path(checkpoint).name)
    typer.echo(f"{summarise(explanation)}\nwrote {output}")


@app.command("hashtags")
def hashtags_command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    source: Annotated[Path | None, typer.Argument(metavar="[INPUT", help="Table, in place of one text.")] = None,
    target: Annotated[Path | None, typer.Argument(metavar="OUTPUT]", help="File to write, format by suffix.")] = None,
    text: Annotated[str | None, typer.Option(help="The text; with a table, the name of its text column.")] = None,
    image: Annotated[str | None, typer.Option(help="The picture's file; with a table, its column.")] = None,
    keywords: Annotated[int, typer.Option(help="Keywords of the text, at most.")] = 5,
    min_score: Annotated[float, typer.Option(help="Use categories from this probability on.")] = 0.5,
    analyzer: Annotated[str, typer.Option(help="kiwi, mecab, plain, or auto for the first installed.")] = "auto",
    ranking: Annotated[
        str, typer.Option(help="What ranks keywords: both (encoder and statistics), or statistics, much faster.")
    ] = "both",
    as_json: Annotated[bool, typer.Option("--json", help="Print scores too, as JSON.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a forward pass.")] = 32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a Hub checkpoint.")] = None,
) -> None:
    """Make hashtags: the categories that the checkpoint is sure of, and keywords of the text."""
    from tqdm import tqdm

    from .inference.predictor import Predictor
    from .inference.table import read_task_file
    from .tools.hashtags import Hashtagger, hashtag_table

    if source is not None and target is None:
        raise ValueError(f"name the file to write after {source}.")
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"input file {source} does not exist.")
    predictor = Predictor.from_pretrained(checkpoint, device, batch_size=batch_size, revision=revision)
    tagger = Hashtagger(predictor, keywords, min_score, analyzer, ranking=ranking)
    if source is None:
        (made,) = tagger([{"text": text, "image": image}])
        if "error" in made:
            raise ValueError(made["error"])
        typer.echo(json.dumps(made, ensure_ascii=False) if as_json else made["text"])
        return
    columns = read_task_file(checkpoint, revision)
    with tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar:
        counts = hashtag_table(
            tagger, source, target, [text] if text else None, image, columns=columns, on_rows=bar.update
        )
    wrong = f", {counts['errors']} with an error (see the column `error`)" if counts["errors"] else ""
    typer.echo(f"wrote {target}: {counts['rows']} rows{wrong}")


app.command("push")(cli_hub.push_command)
app.command("pull")(cli_hub.pull_command)
app.command("export")(cli_hub.export_command)


@data_app.command("profile")
def data_profile_command(
    task: Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`), or a task's or recipe's YAML.")],
    data: Annotated[str | None, typer.Option(help="File of the rows, in place of the task's own.")] = None,
    text_cleaning: Annotated[
        str | None,
        typer.Option(help="simple, elaborate, none, or a list of steps; the recipe's own by default, or simple."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Encoder whose tokens are counted; the recipe's by default.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Trained on text and pictures: lists the rows for which the two disagree.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="HTML file; profile-TASK.html by default.")] = None,
) -> None:
    """Look at a task's rows before training: classes, lengths, words, pictures, duplicates, contradictions."""
    from .runs.recipe import parse_overrides
    from .tools.profiling import profile_task

    cleaning = parse_overrides([f"text_cleaning={text_cleaning}"])["text_cleaning"] if text_cleaning else None
    output = output or Path(f"profile-{Path(task).stem}.html")
    facts = profile_task(task, output, data=data, text_cleaning=cleaning, tokenizer=tokenizer, checkpoint=checkpoint)
    for finding in facts["findings"]:
        typer.echo(f"- {finding}")
    typer.echo(f"wrote {output}: {facts['rows']:,} rows")


data_app.command("push")(cli_hub.data_push_command)


@metrics_app.command("list")
def metrics_list() -> None:
    """List the metrics."""
    from .hub.spaces import METRICS

    for name in METRICS:
        typer.echo(name)


metrics_app.command("push")(cli_hub.metrics_push_command)


space_app.command("push")(cli_hub.space_push_command)


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


def _numbers(text: str | None, option: str) -> list[int] | None:
    try:
        return None if text is None else [int(number) for number in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{option} needs whole numbers, such as 1,2,3, not {text!r}.") from None


def _quiet(overrides: dict[str, Any]) -> dict[str, Any]:
    """Leave progress bars out where nobody watches."""
    return overrides if sys.stderr.isatty() else {"disable_tqdm": True} | overrides


def _print_columns(rows: list[tuple[str, str]], width: int | None = None) -> None:
    width = width or max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        typer.echo(f"{name:{width}}{text}")


if __name__ == "__main__":
    main()
