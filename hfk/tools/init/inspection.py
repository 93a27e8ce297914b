"""`inspect_table`: a first guess at a table's task, as a commented YAML file that has been loaded before it is written.

`roles.py` says what each column is; here columns are compared (twins, parents, one column a label, texts that give the
labels away), the heads are chosen, and the file is written. Doubtful heads stand in it as comments.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...tasks.columns import NO, RESERVED, YES
from ...tasks.folders import picture_folders, read_folders
from ...tasks.heads import sort_labels
from ...tasks.source import as_files, split_name
from ...tasks.tables import Layout, is_saved_dataset, layout, read_table
from ...tasks.yaml_task import read_names, table_task
from .roles import LABELED, MANY_LABELS, Column, classify

MAX_LENGTH = 512
"""Tokens that the encoder of the recipe `table` reads at most."""
_TOKENS = 0.55  # a character of Korean, in tokens of that encoder
_MANY_HEADS = 8  # columns of few values beside one that is called a label: features, more likely than labels
_FEW_RAGGED = 0.02  # of the lines; where more have another width, the table is read wrongly
_FEW_ROWS = 1000
_NAMES_BYTES = 1 << 16
_SUMS = frozenset("합계 총계 총합 소계 평균 계 total sum average mean".split())  # noqa: SIM905
_BOX = ("xmin", "ymin", "xmax", "ymax")


def inspect_table(path: str | Path, folder: str | Path | None = None, **reading: Any) -> str:
    """Guess a task for a table.

    Args:
        path: a table, or a folder of pictures with a subfolder a class.
        folder: where the YAML file will stand; the table's own folder by default. `data:` is written relative to it.
        **reading: how the table is read, if it can't be seen; as for `tables.layout`.

    Returns:
        The text of a YAML file, with a comment on each guess and on what was left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it can't be read, or no column can be an input or a label.
    """
    path = Path(path)
    folder = path.parent if folder is None else Path(folder)
    table = not path.is_dir() or is_saved_dataset(path)
    how, ragged = _layout(path, reading) if table else (Layout("pictures"), {})
    files = as_files(str(path)) if table else picture_folders(str(path.resolve()), Path()) or {}
    cells = _cells(files, how.settings | ragged) if table else _pictures(files)
    rows = len(next(iter(cells.values()), []))
    if not rows:
        raise ValueError(f"{path.name} has no rows to look at.")
    columns = [_column(str(name), found, path.parent) for name, found in cells.items()]
    _leave_out_spans(columns)
    _remark_on_sums(columns, path.name)
    _one_of_each(columns)
    columns = _join_marks(columns, rows)
    _drop_twins(columns)
    _drop_leaks(columns)
    _find_parents(columns)
    if table and not any(column.role in ("text", "image") for column in columns):
        raise ValueError(f"{path.name}: no column looks like text or pictures; {_told(columns)}")
    heads, doubtful = _choose(columns)
    if not heads:
        raise ValueError(f"{path.name}: no column looks like a label; {_told(columns)}")
    for head in heads:
        _find_names(head, path, folder)
    while True:
        text = _yaml(path, folder, how, [*files], columns, heads, doubtful, rows)
        try:
            task = table_task(yaml.safe_load(text), folder)
            if not any(column.role == "image" and "no such files" in column.why for column in columns):
                task.look()
            return text
        except ValueError as error:
            named = [head for head in heads if f"head {_head_name(head)!r}" in str(error)]
            if not named or len(heads) == 1:
                raise
            heads.remove(named[0])
            doubtful.append(named[0])
            named[0].why = str(error)
            for head in heads:
                head.parent = None if head.parent == named[0].name else head.parent


def _layout(path: Path, reading: dict[str, Any]) -> tuple[Layout, dict[str, Any]]:
    """How a table is read; a few lines of another width are rows without cells, which are left out in the end."""
    try:
        how, ragged = layout(path, **reading), {}
    except ValueError:
        how, ragged = layout(path, **reading, ragged="empty"), {"ragged": "empty"}
        if how.cut is not None and how.cut.wrong > max(1, _FEW_RAGGED * how.rows):
            raise
    return replace(how, settings=reading | how.settings), ragged


def _cells(files: dict[str, list[Path]], reading: dict[str, Any]) -> dict[str, list[Any]]:
    tables = [read_table(path, **reading) for paths in files.values() for path in paths]
    return {name: [*chain.from_iterable(table[name].tolist() for table in tables)] for name in tables[0].columns}


def _pictures(folders: dict[str, Path]) -> dict[str, list[Any]]:
    chunks = [chunk for table in read_folders(folders) for chunk in table.chunks()]
    named = [name for name in chunks[0] if name not in ("file", "image", "file_name")]
    return {name: [cell for chunk in chunks for cell in chunk[name]] for name in named}


# ------------------------------------------------------------------------------------------------- columns together


def _column(name: str, cells: list[Any], folder: Path) -> Column:
    """A column and its role; lists of at most one value each are that value."""
    lists = [cell for cell in cells if isinstance(cell, list)]
    alone = bool(lists) and all(len(cell) < 2 and not isinstance((cell or [""])[0], (list, dict)) for cell in lists)
    if alone:
        cells = [(cell[0] if cell else None) if isinstance(cell, list) else cell for cell in cells]
    column = Column(name, cells)
    classify(column, folder)
    if alone and column.role in ("text", "image"):
        _leave_out(column, "it holds lists of one text; hfk reads texts, so write them without the brackets")
    return column


def _told(columns: list[Column]) -> str:
    """What was found instead of what a task needs, in some hundred letters."""
    if len(columns) == 1 and columns[0].values[:1] and columns[0].values[0].startswith("__label__"):
        return "lines such as `__label__A text` are fastText's; write label and text as two columns."
    columns = sorted(columns, key=lambda column: "lists of" not in column.why)  # what to mend comes first
    seen = [f"{column.name or '(no name)'}: {column.why or column.role}" for column in columns]
    return f"write the task's YAML by hand. {'; '.join(seen)}"[:600]


def _leave_out_spans(columns: list[Column]) -> None:
    """Leave out labels that come with the places in a text that they are of."""
    places = {"start", "end", "begin", "start_offset", "end_offset", "offset"}
    spans = {column.name.rpartition(".")[0] for column in columns if column.name.rpartition(".")[2] in places} - {""}
    for column in columns:
        if column.name.rpartition(".")[0] in spans:
            _leave_out(column, "it is of parts of a text, which hfk doesn't learn")


def _remark_on_sums(columns: list[Column], name: str) -> None:
    """Say that last rows are no rows like others."""
    rows = len(columns[0].cells)
    found = [row + 1 for row in range(max(0, rows - 3), rows) for column in columns
             if str(column.cells[row]).strip().lower() in _SUMS]  # fmt: skip
    if found:
        shown = ", ".join(map(str, dict.fromkeys(found)))
        warnings.warn(f"{name}: what is in row {shown} looks like sums or means, not like a row.", stacklevel=3)


def _leave_out(column: Column, why: str) -> None:
    column.role, column.why = "left out", why


def _one_of_each(columns: list[Column]) -> None:
    for role in ("image", "id", "split", "group"):
        chosen = [column for column in columns if column.role == role]
        chosen.sort(key=lambda column: column.says != "id" if role == "id" else bool(column.image))
        for extra in chosen[1:]:
            _leave_out(extra, f"{extra.why}; {chosen[0].name!r} is the {role} already")
            if extra.image and not any(column.role == "id" for column in columns):
                extra.role, extra.why, extra.image = "id", "a different value on each row", ""


def _join_marks(columns: list[Column], rows: int) -> list[Column]:
    """Make one head of neighboring columns that each say of one label whether it applies."""
    joined: list[Column] = []
    for kind, run in _runs(columns):
        if kind is None or len(run) < 3 or sum(column.distinct == 2 or column.rows < rows for column in run) < 2:
            joined += run
            continue
        marked = np.zeros((rows, len(run)), dtype=bool)
        for number, column in enumerate(run):
            marked[:, number] = np.isin(column.codes, [n for n, v in enumerate(column.values) if v.lower() in YES])
        column = Column("labels", [])
        column.role, column.columns, column.score = "marks", [one.name for one in run], 1
        column.exclusive = bool((marked.sum(1) == 1).all())
        per_row = marked.sum() / rows
        column.why = f"one column a label, {len(run)} labels; {per_row:.2g} a row on average"
        taken = {other.name for other in columns}
        column.name = next(name for name in ("labels", "marks", "labels_") if name not in taken)
        joined.append(column)
    return joined


def _runs(columns: list[Column]) -> Iterator[tuple[str | None, list[Column]]]:
    """Columns in runs of one kind of marks; None for the kind of other columns."""
    run: list[Column] = []
    kind: str | None = None
    for column in columns:
        own = _marks_of(column)
        if run and own != kind:
            yield kind, run
            run = []
        kind = own
        run.append(column)
    yield kind, run


_SPELLED = (("0", "1"), ("true", "false"), ("y", "n"), ("yes", "no"), ("o", "x"), ("예", "아니오"))


def _marks_of(column: Column) -> str | None:
    words = {value.lower() for value in column.values}
    if column.role not in ("label", "left out") or column.score < 0 or not words or not words <= YES | NO:
        return None
    return next((" ".join(pair) for pair in _SPELLED if words <= set(pair)), "others")


def _drop_twins(columns: list[Column]) -> None:
    """Leave out label columns that say the same as a more readable one."""
    alike: dict[bytes, list[Column]] = {}
    for column in columns:
        if column.role == "label" and column.distinct > 2:
            alike.setdefault(column.codes.tobytes(), []).append(column)
    for twins in alike.values():
        readable = max(twins, key=lambda column: (column.score >= 0, *_readable(column)))
        for code in twins:
            if code is not readable:
                _leave_out(code, f"says the same as {readable.name!r}, which is easier to read")
                readable.score = max(readable.score, code.score)


def _readable(column: Column) -> tuple[int, int]:
    return sum(not value.replace(".", "").isdigit() for value in column.values), sum(map(len, column.values))


def _drop_leaks(columns: list[Column]) -> None:
    """Leave out a text column that spells out all values of a several-valued label column: it would give them away."""
    texts = [column for column in columns if column.role == "text"]
    for label in [column for column in columns if column.role == "labels" and column.separator]:
        for text in texts:
            both = np.flatnonzero((label.codes >= 0) & (text.codes >= 0))
            both = both[:: max(1, len(both) // 500)]
            held = sum(
                all(part.strip() in text.values[text.codes[row]] for part in value.split(label.separator))
                for row in both
                for value in [label.values[label.codes[row]]]
            )
            if len(both) and held > 0.9 * len(both) and any(o.role == "text" and o is not text for o in texts):
                _leave_out(text, f"it spells out the labels of {label.name!r}")


def _find_parents(columns: list[Column]) -> None:
    """Give each label column the closest one that its values fix, but for a few slips or a few names under several."""
    labels = sorted((column for column in columns if column.role == "label"), key=lambda column: column.distinct)
    for number, child in enumerate(labels):
        found = {}
        for parent in labels[:number]:
            if parent.distinct >= child.distinct or child.rows < 4 * child.distinct:
                continue
            for rows in (_FEW_ROWS, len(child.codes)):  # what few rows refute, more would not confirm
                under, conflicts = _parents(child.codes[:rows], parent.codes[:rows], child.distinct, parent.distinct)
                several = int((under > 1).sum())
                qualify = conflicts > child.rows // 1000
                if qualify and (several > 0.25 * child.distinct or child.distinct - several < 3):
                    break
            else:
                if under.all():
                    alike = _stem(parent.name) == _stem(child.name)
                    found[parent.name] = (not qualify, alike, parent.distinct, conflicts)
        if found:  # the closest: without names under several, the one named alike, else the one with most labels
            child.parent = max(found, key=lambda name: found[name][:3])
            strict, _, _, child.conflicts = found[child.parent]
            child.qualify = not strict


def _parents(children: np.ndarray, parents: np.ndarray, labels: int, above: int) -> tuple[np.ndarray, int]:
    """Under how many parents each label stands, and how many rows put it under another than most do."""
    both = (children >= 0) & (parents >= 0)
    pairs = np.bincount(children[both] * above + parents[both], minlength=labels * above).reshape(labels, above)
    return (pairs > 0).sum(1), int(pairs.sum() - pairs.max(1).sum())


def _stem(name: str) -> str:
    return re.sub(r"[\d_]*(name)?$", "", name)


def _choose(columns: list[Column]) -> tuple[list[Column], list[Column]]:
    """The heads, coarse to fine, and the doubtful ones."""
    able = [column for column in columns if column.role in LABELED]
    by_name = {column.name: column for column in able}
    heads = [column for column in able if column.score >= 0]
    strong = [column for column in heads if column.score > 0]
    if strong and len(heads) - len(strong) > _MANY_HEADS:
        heads = strong
    if not heads and able:
        best = max(column.score for column in able)
        heads = [column for column in able if column.score == best]
    for column in list(heads):  # what a head refines is a head, whatever it is called
        while column.parent is not None and by_name[column.parent] not in heads:
            if by_name[column.parent].score < 0:
                column.parent, column.conflicts, column.qualify = None, 0, False
                break
            column = by_name[column.parent]
            heads.append(column)
    ordered: list[Column] = []

    def add(parent: str | None) -> None:
        for column in able:
            if column in heads and column.parent == parent and column not in ordered:
                ordered.append(column)
                if column.role == "label":
                    add(column.name)

    add(None)
    ordered.sort(key=lambda column: column.role != "label")
    return ordered, [column for column in able if column not in heads]


def _find_names(head: Column, data: Path, folder: Path) -> None:
    """Look beside the table for a file that names a head's codes, such as topic_dict.csv or classes.txt."""
    if head.role != "label" or not all(re.fullmatch(r"-?[A-Za-z]{0,4}[-_]?\d+", value) for value in head.values):
        return
    for path in sorted(data.parent.iterdir()):
        small = (
            path != data
            and path.suffix.lower() in (".csv", ".tsv", ".json", ".txt")
            and path.stat().st_size <= _NAMES_BYTES
        )
        if not small or not path.is_file():
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                names, codes = read_names(str(path.resolve()), head.name, head.name)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        told = re.search(r"label|class|dict|map|name|code|라벨|분류|코드", path.stem, re.IGNORECASE)
        fits = codes and set(head.values) <= codes.keys() and len(codes) <= 2 * head.distinct
        if fits and told and not all(name.isdecimal() for name in names):
            head.labels = _relative(path, folder)
            return


# ------------------------------------------------------------------------------------------------------------ output


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r"[A-Za-z_가-힣][\w.가-힣-]*( [\w가-힣.-]+)*", value) and isinstance(
        yaml.safe_load(value), str
    )
    return value if plain else json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> str:
    return " ".join(text.split())


def _head_name(column: Column) -> str:
    return column.name + ("_label" if column.name in RESERVED else "")


def _entry(column: Column) -> dict[str, Any]:
    """A head, as it stands under `heads:`."""
    if column.role == "levels":
        return {"column": column.name, "levels": column.levels, "separator": column.separator.strip()}
    name = _head_name(column)
    entry: dict[str, Any] = {"name": name} | ({} if name == column.name else {"column": column.name})
    if column.role == "number":
        entry["problem"] = "regression"
    elif column.role == "labels" or (column.role == "marks" and not column.exclusive):
        entry["problem"] = "multi_label"
    options = {"columns": column.columns, "separator": column.separator, "labels": column.labels}
    entry |= {key: value for key, value in options.items() if value}
    if column.min_rows > 1:
        entry["min_rows"] = column.min_rows
    if column.role == "labels" and (empty := len(column.cells) - column.rows):
        entry["empty"] = "none" if empty >= 0.05 * len(column.cells) else "unknown"
    if column.parent:
        entry["parent"] = column.parent + ("_label" if column.parent in RESERVED else "")
        entry |= {"qualify": True} if column.qualify else {"conflicts": "ignore"} if column.conflicts else {}
    return entry


def _note(column: Column) -> str:
    """What is said of a head, in one line."""
    notes = [column.why] if column.why else []
    if column.role == "label":
        shown = ", ".join(value[:40] for value in sort_labels(column.values)[:6])
        notes.append(f"{column.distinct} labels: {shown}{', …' if column.distinct > 6 else ''}")
        single, many = int((column.counts == 1).sum()), column.distinct > MANY_LABELS
        notes += [f"{single} on one row only"] * bool(single) + ["they are many: are they classes?"] * many
    empty = len(column.cells) - column.rows
    if empty and column.role == "labels":
        notes.append(
            f"{empty} of {len(column.cells)} cells are empty: `none` means that no label applies there, `unknown` that "
            "nothing is learned there"
        )
    elif empty:
        notes.append(f"{empty} rows have none")
    if column.qualify:
        notes.append(f"some names stand under several {column.parent}, and become one label under each")
    elif column.conflicts:
        notes.append(f"{column.conflicts} rows contradict {column.parent} and are ignored")
    return _comment("; ".join(notes))


def _yaml(
    path: Path,
    folder: Path,
    how: Layout,
    splits: list[str],
    columns: list[Column],
    heads: list[Column],
    doubtful: list[Column],
    rows: int,
) -> str:
    of = {
        role: [column for column in columns if column.role == role]
        for role in ("text", "image", "id", "split", "group")
    }
    said = f"{rows:,} pictures" if how.kind == "pictures" else f"{rows:,} rows, {len(columns)} columns"
    said += f"; {how.said}" if how.said else ""
    lines = [
        f"# A task guessed from {path.name} ({said}). Read it, correct it, then:",
        "#   hfk train THIS_FILE --output-dir runs/NAME",
        "",
        f"data: {_flow(_relative(path, folder))}",
        *(f"{key}: {_flow(value)}" for key, value in how.settings.items()),
    ]
    if of["text"]:
        names = [column.name for column in of["text"]]
        lines += ["", "# Text: " + _comment("; ".join(f"{column.name}, {column.why}" for column in of["text"])) + "."]
        lines.append(f"text: {_flow(names[0] if len(names) == 1 else names)}")
    if of["image"]:
        image = of["image"][0]
        lines += ["", f"# Pictures: {_comment(image.why)}.", f"image: {_flow(image.image or image.name)}"]
        if image.image_dir:
            lines.append(f"image_dir: {_flow(_relative(path.parent / image.image_dir, folder))}")
        lines += _box_lines(columns)
    if of["id"]:
        lines += ["", f"# {_comment(of['id'][0].why).capitalize()}.", f"id: {_flow(of['id'][0].name)}"]
    lines += _missing_inputs(of)
    lines += [
        "",
        "# One entry a label column, coarse to fine; a child's label has one parent label in every row.",
        "heads:",
    ]
    for column in heads:
        lines += [f"  # {_note(column)}", f"  - {_flow(_entry(column))}"]
    if doubtful:
        lines += ["  # Perhaps labels too, but they look like facts about the rows; take the sign away to learn them:"]
        lines += [f"  # - {_flow(_entry(column))}  # {_note(column)}" for column in doubtful]
    if left := [column for column in columns if column.role == "left out"]:
        lines += ["", "# Left out:"] + [f"#   {column.name or '(no name)'}: {_comment(column.why)}." for column in left]
    lines += ["", *_split_lines(splits, of), "", *_recipe_lines(of["text"])]
    return "\n".join(lines) + "\n"


def _missing_inputs(of: dict[str, list[Column]]) -> list[str]:
    """What to do with rows that have no input."""
    inputs = [column for column in (*of["text"], *of["image"]) if not column.image]
    if not inputs:
        return []
    empty = np.flatnonzero(np.all([column.codes < 0 for column in inputs], axis=0)) + 1
    if not len(empty):
        return []
    shown = ", ".join(map(str, empty[:8])) + (", …" if len(empty) > 8 else "")
    return [
        "",
        f"# {len(empty)} rows have no input (rows {shown}); they are left out. `error` stops at them.",
        "bad_rows: drop",
    ]


def _box_lines(columns: list[Column]) -> list[str]:
    """The part of the picture that is meant, where four columns say it."""
    sides = [next((one.name for one in columns if one.words[:1] == [side]), None) for side in _BOX]
    return [f"box: {_flow(sides)}"] if all(sides) else []


def _split_lines(splits: list[str], of: dict[str, list[Column]]) -> list[str]:
    group = {"group": of["group"][0].name} if of["group"] else {}
    if of["split"]:
        column = of["split"][0]
        shares = {} if "validation" in map(split_name, column.values) else {"validation": 0.1}
        return [f"# {_comment(column.why).capitalize()}.", f"split: {_flow({'column': column.name} | shares | group)}"]
    if len(splits) > 1:
        shares = {} if "validation" in splits else {"validation": 0.1}
        return [f"# The data give {', '.join(splits)}.", f"split: {_flow(shares | {'seed': 42} | group)}"]
    said = "# Rows that look alike are kept in one split" + (", and all of one " + group["group"] if group else "")
    return [f"{said}. Or, if a column says each row's split: {{column: NAME}}",
            f"split: {_flow({'validation': 0.1, 'test': 0.1, 'seed': 42} | group)}"]  # fmt: skip


def _recipe_lines(texts: list[Column]) -> list[str]:
    """The recipe, with room for the texts as far as its encoder has it."""
    total = sum(
        (np.array([len(value) for value in column.values] or [0])[column.codes] * (column.codes >= 0)
         for column in texts), np.zeros(1),
    )  # fmt: skip
    tokens = float(np.quantile(total, 0.95)) * _TOKENS
    if tokens <= 128:
        return ["recipe: table"]
    fits = min(MAX_LENGTH, -(-int(tokens) // 64) * 64)
    note, part = f"# Texts have up to about {int(tokens):,} tokens (95 % of them fewer)", ""
    if tokens > MAX_LENGTH:
        note += f"; the encoder reads {MAX_LENGTH} of them: their head, tail, or middle (half of either)"
        part = ", truncation: head"
    return [f"{note}.", f"recipe: {{base: table, max_length: {fits}{part}}}"]
