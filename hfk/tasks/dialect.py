"""Dialect: a Korean sentence → the region that it comes from, or the standard language.

Tables hold pairs, `region, dialect, standard`; AI-Hub's JSON writes both into one form, `(묵자)/(먹자)`. A pair gives
two rows: its dialect side, labeled by the region, and its standard side, by `STANDARD`. Sides that are equal carry no
mark of a region and give one row, of `STANDARD`. What only one project's transcribers write (`((…))`, `&name&`,
`{laughing}`, `~`, a space before a full stop) is cleaned away, or it would tell the region by the file. Pairs of single
words are trained on and never scored. The task `dialect-mini` is an embedded sample of sentences of our own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..models.shared import normalize_letters
from .columns import HeadColumn
from .delimited import SHOWN
from .inputs import plain_text
from .names import canonical
from .samples import read_sample, sample_stamp
from .source import WHOLE, RawTable, TableSource, as_files, file_stamps, read_files
from .tables import Chunk, iter_columns
from .task import Task

STANDARD = "standard"
GROUPS = ("conversation", "speaker", "block", "pair")
"""Columns that `split: {group: …}` may name: rows of one conversation, of one speaker, of `BLOCK` consecutive pairs of
a conversation, or the two sides of one pair stay together. Where a table names no conversation or no speaker, each pair
is one of its own."""
BLOCK = 25
SPLIT = {"validation": 0.1, "test": 0.1, "seed": 42, "group": "conversation"}
REGION_OF = {"DK": "gyeongsang", "DZ": "jeju", "DJ": "jeolla", "DC": "chungcheong", "DG": "gangwon"}
"""The region by the first letters of AI-Hub's ids."""
_FORMS = re.compile(r"\(([^()]*)\)\s*/\s*\(([^()]*)\)")
_MARKS = re.compile(
    r"\(\(|\)\)"  # around what was hard to hear
    r"|[&@][^\s&@]{1,20}&"  # in place of a name
    r"|\{[^{}]*\}"  # laughing, clearing a throat
    r"|(?<!\S)-[^\s-]+-(?!\S)"  # a word that was broken off
    r"|[~#\[\]]"
)


@dataclass(slots=True)
class Pair:
    """A sentence, or a word, as it is said in a region, and in the standard language.

    Args:
        region: as the table calls it; None where it doesn't say.
        dialect: clean; empty where there is none.
        standard: the same; what is empty is unknown.
        id: the table's own, else its file and row.
        conversation, speaker, block: see `GROUPS`.
    """

    region: str | None
    dialect: str
    standard: str
    id: str
    conversation: str
    speaker: str
    block: str

    @property
    def is_word(self) -> bool:
        """Whether it is one word in the dialect, as in a dictionary."""
        return len(self.dialect.split()) == 1

    @property
    def is_misaligned(self) -> bool:
        """Whether one side is twice as long as the other and more, so that they can't say the same."""
        short, long = sorted((len(self.dialect), len(self.standard)))
        return 0 < 2 * short < long and long - short >= 8


def dialect_task(data: Any = None) -> Task:
    """The task `dialect`.

    Args:
        data: tables of pairs, or AI-Hub's JSON; one, a list, or a mapping from split to such.

    Raises:
        ValueError: if no file is given.
    """
    if data is None:
        raise ValueError(
            'pairs of dialect and standard are not part of hfk: give yours, load_task("dialect", data="pairs.tsv"), or '
            "use the embedded sample, dialect-mini."
        )
    files = as_files(data)
    return _task("dialect", partial(read_files, files), file_stamps(files), SPLIT)


def dialect_mini_task(data: Any = None) -> Task:
    """The task `dialect-mini`: sentences from templates; with `data`, those files as `dialect_task` reads them."""
    if data is not None:
        return dialect_task(data)
    stamp, split = sample_stamp("dialect_mini"), SPLIT | {"test": 0.2}
    return _task("dialect-mini", partial(read_sample, "dialect_mini"), stamp, split)


def _task(name: str, read: Callable[[], list[RawTable]], stamp: Any, split: dict[str, Any]) -> Task:
    source = TableSource(
        read=partial(_tables, read),
        heads=[HeadColumn("region")],
        text=["text"],
        id="id",
        fingerprint=stamp,
    )
    return Task(name, source, split=split)


def _tables(read: Callable[[], list[RawTable]]) -> list[RawTable]:
    """Every table as its sentences and, where they may be trained on, its words."""
    tables = []
    for table in read():
        tables.append(RawTable(table.file, partial(_sides, table, False), split=table.split))
        if table.split in (WHOLE, "train"):
            tables.append(RawTable(table.file, partial(_sides, table, True), split="train"))
    return tables


def _sides(table: RawTable, words: bool) -> Iterator[Chunk]:
    """The sides of a table's sentences, or of its words, as rows; a chunk for each of the table's."""
    names = ("id", "text", "region", *GROUPS)
    for pairs in clean_pairs(table.chunks, table.file):
        rows = []
        for pair in pairs:
            if pair.is_word != words:
                continue
            groups = (pair.conversation, pair.speaker, pair.block, pair.id)
            differs = pair.dialect != pair.standard
            if (pair.dialect and differs) or not pair.standard:
                rows.append((f"{pair.id}/dialect", pair.dialect, pair.region, *groups))
            if pair.standard:
                rows.append((f"{pair.id}/{STANDARD}", pair.standard, STANDARD, *groups))
        yield {name: [row[place] for row in rows] for place, name in enumerate(names)}


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """Read the pairs of a table or of AI-Hub's JSON.

    Pairs of no words, or whose sides don't match, are left out; a warning names their rows.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no column `dialect` and no `form`, or nothing says which region it is of.

    Example:
        >>> next(read_pairs("pairs.tsv")).dialect  # doctest: +SKIP
        '밥 묵자'
    """
    path = Path(path)
    for pairs in clean_pairs(partial(iter_columns, path), path.name):
        yield from pairs


def clean_pairs(read: Callable[[], Iterator[Chunk]], file: str) -> Iterator[list[Pair]]:
    """The pairs of a table called `file`, a list for each of its chunks; see `read_pairs`."""
    row, misaligned = 0, []
    for chunk in read():
        pairs = []
        for cells in zip(*_columns(chunk, file), strict=True):
            row += 1
            pair = _pair(cells, f"{Path(file).stem}:{row}", row)
            if pair.is_misaligned or not (pair.dialect or pair.standard):
                misaligned.append(row)
            else:
                pairs.append(pair)
        yield pairs
    if misaligned:
        more = f" and {len(misaligned) - SHOWN:,} more" * (len(misaligned) > SHOWN)
        warnings.warn(
            f"{file}: pairs of rows {', '.join(map(str, misaligned[:SHOWN]))}{more} are left out, for one side is "
            "more than twice as long as the other, or nothing is left of both.",
            stacklevel=2,
        )


def _columns(chunk: Chunk, file: str) -> list[list[Any]]:
    """Region, dialect, standard, id, conversation, and what tells a speaker, each None where a table lacks it."""
    nothing = [None] * len(next(iter(chunk.values())))

    def column(*names: str) -> list[Any]:
        return next((chunk[name] for name in names if name in chunk), nothing)

    dialect, identities = column("form", "dialect", "dialect_form"), column("utterance_id", "id")
    if dialect is nothing:
        raise ValueError(f"column 'dialect' is missing from {file}; it has: {', '.join(chunk)}.")
    conversations = column("conversation_id", "conversation")
    if "form" in chunk and conversations is nothing:
        conversations = [str(identity).partition(".")[0] for identity in identities]
    regions = column("region")
    if regions is nothing:
        regions = [REGION_OF.get(str(name)[:2]) for name in conversations]
        if None in regions:
            raise ValueError(
                f"column 'region' is missing from {file}, and its ids don't begin as AI-Hub's do "
                f"({', '.join(REGION_OF)}); it has: {', '.join(chunk)}."
            )
    speakers = list(zip(column("speaker_id", "speaker"), column("speaker_sex"), column("speaker_age"), strict=True))
    return [regions, dialect, column("standard", "standard_form"), identities, conversations, speakers]


def _pair(cells: tuple[Any, ...], where: str, row: int) -> Pair:
    region, dialect, standard, identity, conversation, speaker = cells
    said, meant = both_readings(plain_text(dialect) or "")
    if standard is not None and said == meant:
        meant = clean_utterance(plain_text(standard) or "")
    elif standard is None and not _FORMS.search(str(dialect)):
        meant = ""
    identity, talk = plain_text(identity) or where, plain_text(conversation)
    known = [str(part) for part in speaker if plain_text(part)]
    return Pair(
        region=None if plain_text(region) is None else canonical(str(region)),
        dialect=said,
        standard=meant,
        id=identity,
        conversation=talk or identity,
        speaker="-".join([talk or "", *known]) if known else talk or identity,
        block=f"{talk}:{row // BLOCK}" if talk else identity,
    )


def both_readings(form: str) -> tuple[str, str]:
    """The two sides of a form that writes both, clean; of any other one, twice the same.

    Example:
        >>> both_readings("(마이)/(많이) (묵으라)/(먹어라) {laughing} &name1&")
        ('마이 묵으라', '많이 먹어라')
    """
    return clean_utterance(_FORMS.sub(r"\1", form)), clean_utterance(_FORMS.sub(r"\2", form))


def clean_utterance(text: str) -> str:
    """A text without transcribers' marks: composed (NFC; letters such as ᄀᆞ stay), one space between words.

    Example:
        >>> clean_utterance("어~  ((그지)) -저- @성명1& 가젠  .")
        '어 그지 가젠.'
    """
    text = _MARKS.sub(" ", normalize_letters(text))
    return re.sub(r"\s+(?=[.,?!…]+(?:\s|$))", "", " ".join(text.split()))
