"""What a place holds, from its listing and some of its rows: which kind of source reads it, and what its columns look like."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.adapters.files.access import NothingToRead, briefly, list_files, root_of
from tasks.adapters.files.table_marks import IsATable
from tasks.adapters.files.tables.table_roots import refuse_tables_above
from tasks.adapters.sources import csv, images, jsonl, parquet, webdataset
from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain.errors import BadInput
from tasks.domain.job.source import SOURCES, TabularSource
from tasks.domain.shards.shard import Shard, Span
from tasks.domain.target.fields import FieldType

LISTED = 10_000  # files that are looked at by name
SAMPLED_SPANS, SAMPLED_ROWS = 4, 500  # places in the source, and rows of each
EXAMPLE = 60  # characters
ROWS_FIRST = "Markdown, PDF and other documents become rows first, such as JSON Lines of {id, text}"
SUFFIXES_OF = {
    "parquet": parquet.SUFFIXES,
    "jsonl": jsonl.SUFFIXES,
    "csv": csv.SUFFIXES,
    "webdataset": webdataset.SUFFIXES,
    "images": images.SUFFIXES,
}
PICTURE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
TWO_DECIMALS = re.compile(r"-?\d+\.\d{2}")  # prices: as numbers they would lose a zero at the end, so they stay texts
WORD = re.compile(r"\S+")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # scripts that put no space between words
CHARACTERS_A_WORD = 2  # of those
FIRST_NOT_LATIN = "\u0370"  # Greek is the first script behind Latin
LETTERS = 100_000  # that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLook:
    """A column in the sampled rows.

    `filled` and `distinct` are shares from 0 to 1, of rows and of filled ones; `characters` and `words` are means over filled ones.
    `decimals`: texts that are numbers with two decimals; `pictures`: they name or are pictures; `other_scripts`: the share of letters that are not Latin.
    """

    name: str
    type: FieldType
    filled: float
    distinct: float
    characters: float
    words: float
    binary: bool
    decimals: bool
    pictures: bool
    other_scripts: float
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLook:
    """A place. `files`: as many as were listed, 0 of a lakehouse table; `more`: whether there are others; `rows`: how many were sampled."""

    kind: str
    uri: str
    files: int
    more: bool
    others: dict[str, int]  # files that another kind of source would read
    rows: int
    columns: tuple[ColumnLook, ...]


def look_at_data(uri: str) -> SourceLook:
    """Look at what is at a URI. Reads the head of some files.

    Raises:
        BadInput: nothing is there that a source could read.
    """
    try:
        counts, more = _count_kinds(uri)
    except IsATable as table:
        if table.kind is None or table.folder not in (".", root_of(uri)):
            raise
        counts, more = Counter({table.kind: 0}), False
    kind, files = counts.most_common(1)[0]
    others = {other: count for other, count in counts.items() if other != kind}
    rows, columns = _look_at_columns(kind, uri) if issubclass(SOURCES[kind].settings, TabularSource) else (0, ())
    return SourceLook(kind=kind, uri=uri, files=files, more=more, others=others, rows=rows, columns=columns)


def _count_kinds(uri: str) -> tuple[Counter[str], bool]:
    """Files by the kind of source that reads them."""
    refuse_tables_above(uri)
    suffixes = tuple(suffix for each in SUFFIXES_OF.values() for suffix in each)
    try:
        names = [file.name for file in itertools.islice(list_files(uri, suffixes), LISTED + 1)]
    except NothingToRead as nothing:
        raise BadInput(f"{nothing}. {ROWS_FIRST}") from nothing
    counts = Counter(kind for name in names[:LISTED] if (kind := _kind_of(name)))
    if not counts:
        raise BadInput(
            f"'{uri}' has no name that a source reads (wanted: {briefly(suffixes)}). {ROWS_FIRST}; or name its format by hand, with source.kind"
        )
    return counts, len(names) > LISTED


def _kind_of(name: str) -> str | None:
    return next((kind for kind, suffixes in SUFFIXES_OF.items() if name.lower().endswith(suffixes)), None)


def _look_at_columns(kind: str, uri: str) -> tuple[int, tuple[ColumnLook, ...]]:
    bare = SOURCES[kind].settings.model_validate({"uri": uri}).model_copy(update={"text": []})  # nothing that every file must have
    types = open_source(bare, rows=SAMPLED_ROWS).inspect()
    source = open_source(bare.model_copy(update={"metadata": list(types)}), rows=SAMPLED_ROWS)
    rows = [row for span in _some_spans(source) for row in _head(source, span)]
    return len(rows), tuple(_column(name, type_of, [row.get(name) for row in rows]) for name, type_of in types.items())


def _some_spans(source: SourceFiles[Any]) -> list[Span]:
    """A few that stand apart among the first."""
    spans = list(itertools.islice(source.spans(), len(SUFFIXES_OF) * SAMPLED_SPANS))
    return spans[:: max(1, len(spans) // SAMPLED_SPANS)][:SAMPLED_SPANS]


def _head(source: SourceFiles[Any], span: Span) -> Iterator[dict[str, Any]]:
    batches = source.read(Shard(id="look", span=span))
    return itertools.islice((row for batch in batches for row in batch.to_pylist()), SAMPLED_ROWS)


def _column(name: str, type_of: FieldType, values: list[Any]) -> ColumnLook:
    filled = [value for value in values if value not in (None, "", b"")]
    binary = any(isinstance(value, bytes) for value in filled)
    texts = [value if isinstance(value, str) else "" if isinstance(value, bytes) else str(value) for value in filled]
    return ColumnLook(
        name=name,
        type=type_of,
        filled=len(filled) / len(values) if values else 0.0,
        distinct=len({repr(value) for value in filled}) / len(filled) if filled else 0.0,
        characters=statistics.fmean(map(len, texts)) if texts else 0.0,
        words=statistics.fmean(map(_words, texts)) if texts else 0.0,
        binary=binary,
        decimals=type_of == "varchar" and bool(filled) and all(map(TWO_DECIMALS.fullmatch, texts)),
        pictures=bool(filled) and sum(map(_is_picture, filled)) > len(filled) / 2,
        other_scripts=_other_scripts("".join(texts[:SAMPLED_ROWS])[:LETTERS]),
        example=_example(texts, binary=binary),
    )


def _words(text: str) -> float:
    unspaced = len(UNSPACED.findall(text))
    return len(WORD.findall(text)) + unspaced / CHARACTERS_A_WORD


def _other_scripts(text: str) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter >= FIRST_NOT_LATIN for letter in letters) / len(letters) if letters else 0.0


def _is_picture(value: Any) -> bool:
    """Bytes that begin as a picture, also in the structs of datasets that have them with their paths, or the name of one."""
    if isinstance(value, dict):
        return any(map(_is_picture, value.values()))
    if isinstance(value, bytes):
        return value.startswith(PICTURE_MAGIC) or value[4:8] == b"ftyp"
    return isinstance(value, str) and "\n" not in value and value.lower().partition("?")[0].endswith(images.SUFFIXES)


def _example(texts: list[str], *, binary: bool) -> str:
    if binary or not texts:
        return "(bytes)" if binary else ""
    line = " ".join(texts[0].split())
    return line if len(line) <= EXAMPLE else f"{line[: EXAMPLE - 3]}..."
