"""Inspect a source URI by its listing and some of its rows: the kind of source that reads it, and properties of its columns."""

from __future__ import annotations

import itertools
import posixpath
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tasks.adapters.files.access import NothingToRead, format_suffixes, list_files, root_of
from tasks.adapters.files.table_marks import IsATable
from tasks.adapters.files.tables.table_roots import refuse_tables_above
from tasks.adapters.sources import csv, images, jsonl, parquet, text_folder, webdataset
from tasks.adapters.sources.registry import open_source, sample_texts
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain.errors import BadInput
from tasks.domain.job.source import SOURCES, TabularSource
from tasks.domain.shards.shard import Shard, Span
from tasks.domain.target.fields import FieldType

LISTED = 10_000  # the most file names that are inspected
SAMPLED_SPANS, SAMPLED_ROWS = 4, 500  # places in the source, and rows of each
SCRIPT_SAMPLE = 64  # texts that determine the script
EXAMPLE = 60  # characters
ROWS_FIRST = "PDF, HTML and other documents become rows first, such as JSON Lines of {id, text}"
SUFFIXES_OF = {
    "parquet": parquet.SUFFIXES,
    "jsonl": jsonl.SUFFIXES,
    "csv": csv.SUFFIXES,
    "webdataset": webdataset.SUFFIXES,
    "images": images.SUFFIXES,
    "text-files": text_folder.SUFFIXES,  # last: of two kinds with equally many files, the first wins
}
BESIDE_DATA = re.compile(r"(readme|licen[cs]e|notice|changelog|requirements)\b", re.IGNORECASE)  # texts that may describe other files
PICTURE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
TWO_DECIMALS = re.compile(r"-?\d+\.\d{2}")  # prices: as numbers they would lose a zero at the end, so they stay texts
WORD = re.compile(r"\S+")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # scripts without spaces between words
CHARACTERS_A_WORD = 2  # of such scripts
FIRST_NOT_LATIN = "\u0370"  # Greek is the first script after Latin
LETTERS = 100_000  # the most characters of a column that are inspected


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLook:
    """Properties of a column in the sampled rows.

    `filled`: share of rows with a value; `distinct`: share of these values that are distinct; `characters`, `words`: means over them.
    `decimals`: the values are texts of numbers with two decimals; `pictures`: most values are pictures or name them; `other_scripts`:
    share of letters that are not Latin. Shares are 0 to 1.
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
    """Properties of a source URI. `files`: listed files, 0 for a lakehouse table; `more`: whether there are others; `rows`: sampled rows.

    For text files, `markdown`: whether most are Markdown; `other_scripts`: share of letters that are not Latin.
    """

    kind: str
    uri: str
    files: int
    more: bool
    others: dict[str, int]  # files that another kind of source would read
    rows: int
    columns: tuple[ColumnLook, ...]
    markdown: bool = False
    other_scripts: float = 0.0


def look_at_data(uri: str) -> SourceLook:
    """Inspect a URI. Reads the beginning of some files.

    Raises:
        BadInput: no source can read anything there.
    """
    try:
        names, more = _names(uri)
        kind, counts = _choose_kind(names)
    except IsATable as table:
        if table.kind is None or table.folder not in (".", root_of(uri)):
            raise
        names, kind, counts, more = [], table.kind, Counter({table.kind: 0}), False
    others = {other: count for other, count in counts.items() if other != kind}
    look = SourceLook(kind=kind, uri=uri, files=counts[kind], more=more, others=others, rows=0, columns=())
    if issubclass(SOURCES[kind].settings, TabularSource):
        rows, columns = _look_at_columns(kind, uri)
        return replace(look, rows=rows, columns=columns)
    return _with_texts(look, names) if SOURCES[kind].settings().modality == "text" else look  # type: ignore[call-arg]


def _with_texts(look: SourceLook, names: list[str]) -> SourceLook:
    """Add the properties of text files, which have no columns."""
    texts = sample_texts(open_source(SOURCES[look.kind].settings.model_validate({"uri": look.uri}), rows=SCRIPT_SAMPLE), SCRIPT_SAMPLE)
    markdown = sum(name.lower().endswith(text_folder.MARKDOWN) for name in names)
    return replace(look, markdown=2 * markdown > look.files, other_scripts=_other_scripts("".join(texts)[:LETTERS]))


def _names(uri: str) -> tuple[list[str], bool]:
    """Names of files that some kind of source reads, and whether there are more."""
    refuse_tables_above(uri)
    suffixes = tuple(suffix for each in SUFFIXES_OF.values() for suffix in each)
    try:
        names = [file.name for file in itertools.islice(list_files(uri, suffixes), LISTED + 1)]
    except NothingToRead as nothing:
        raise BadInput(f"{nothing}. {ROWS_FIRST}") from nothing
    known = [name for name in names[:LISTED] if _kind_of(name)]
    if not known:
        raise BadInput(
            f"'{uri}' has no file name that a source reads (known: {format_suffixes(suffixes)}). {ROWS_FIRST}; or set its format by source.kind"
        )
    return known, len(names) > LISTED


def _choose_kind(names: list[str]) -> tuple[str, Counter[str]]:
    """The kind of source that reads the most files, and the files of each kind; files such as a README do not count for the choice."""
    counts = Counter(kind for name in names if (kind := _kind_of(name)))
    beside = Counter(kind for name in names if BESIDE_DATA.match(posixpath.basename(name)) and (kind := _kind_of(name)))
    return max((kind for kind in SUFFIXES_OF if kind in counts), key=(counts - beside).__getitem__), counts


def _kind_of(name: str) -> str | None:
    return next((kind for kind, suffixes in SUFFIXES_OF.items() if name.lower().endswith(suffixes)), None)


def _look_at_columns(kind: str, uri: str) -> tuple[int, tuple[ColumnLook, ...]]:
    bare = SOURCES[kind].settings.model_validate({"uri": uri}).model_copy(update={"text": []})  # requires no column
    types = open_source(bare, rows=SAMPLED_ROWS).inspect()
    source = open_source(bare.model_copy(update={"metadata": list(types)}), rows=SAMPLED_ROWS)
    rows = [row for span in _some_spans(source) for row in _head(source, span)]
    return len(rows), tuple(_column(name, type_of, [row.get(name) for row in rows]) for name, type_of in types.items())


def _some_spans(source: SourceFiles[Any]) -> list[Span]:
    """A few spans at equal distances among the first."""
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
    """Whether a value is bytes that begin like a picture, a struct with such bytes (as datasets store them), or a picture's file name."""
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
