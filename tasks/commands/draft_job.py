"""Draft a job for a source from its files and sampled rows: content, key, metadata and the reasons."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tasks.commands.look_at_data import ColumnLook, SourceLook
from tasks.domain.errors import BadInput
from tasks.domain.job.source import SOURCES, TabularSource

KEY_NAMES = ("id", "_id", "key", "uuid", "guid", "pk", "docid", "doc_id", "document_id")
NUMBERS_OF_THINGS = ("sku", "isbn", "isbn13", "issn", "asin", "ean", "gtin", "doi", "slug", "ticket", "ticket_no", "invoice_no", "order_no")
KEY_ENDS = re.compile(r"(?:^|[_\W])(?:id|key|uuid|url|uri|path)$|(?<=[a-z])(?:Id|Key|URL)$")
CONTENT_NAMES = ("text", "content", "body", "passage", "document", "abstract", "description", "summary", "message", "comment", "caption")
TITLE_NAMES = ("title", "headline", "subject", "heading", "name")
WORDS_OF_PROSE = 4.0
LONGEST_KEY, LONGEST_METADATA = 256, 200  # characters, on average
MOST_METADATA = 16
NOT_ENGLISH = 0.3  # share of letters of other scripts
GENERIC_NAMES = {"data", "files", "input", "rows", "dataset", "raw", "tmp", "part", "parts", "train"}  # of folders and files
KEYS_ARE = ("int64", "varchar")
METADATA_TYPES = ("int64", "double", "bool", "varchar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The contents of a job file. `text` or `image`: the content columns of a table; `left`: columns that are left out, with the reason;
    `decimals`: metadata columns of texts that look like prices; `split`: how text files are split into chunks.
    """

    kind: str
    uri: str
    corpus: str
    key: str | None = None
    text: tuple[str, ...] = ()
    image: str | None = None
    metadata: tuple[str, ...] = ()
    decimals: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    several_languages: bool = False
    split: str | None = None
    target: str = ""
    checkpoint: str = ""

    @property
    def pictures(self) -> bool:
        """Whether rows are pictures."""
        return self.image is not None or holds_pictures(self.kind)


def draft_job(look: SourceLook, *, corpus: str | None = None) -> Draft:
    """Draft the job for a source.

    Raises:
        BadInput: no column can be embedded; lists the columns.
    """
    name = corpus or corpus_name(look.uri)
    draft = Draft(kind=look.kind, uri=look.uri, corpus=name, target=f"./{name}.db", checkpoint=f"./{name}-vectors")
    if not look.columns:
        if holds_pictures(look.kind):
            return draft
        if not issubclass(SOURCES[look.kind].settings, TabularSource):
            split = "markdown" if look.markdown else "text"
            return replace(draft, split=split, several_languages=look.other_scripts > NOT_ENGLISH)
        raise BadInput(f"'{look.uri}' has no columns: there is nothing to embed")
    image, text = choose_content(look.columns)
    if image is None and not text:
        raise BadInput(f"'{look.uri}' has no column of texts or pictures ({', '.join(column.name for column in look.columns)})")
    return with_columns(draft, look, image=image, text=text, key=choose_key(look.columns, (*text, *([image] if image else []))))


def holds_pictures(kind: str) -> bool:
    """Whether rows of a kind of source are pictures by default."""
    return SOURCES[kind].settings().modality == "image"  # type: ignore[call-arg]


def with_columns(draft: Draft, look: SourceLook, *, image: str | None, text: tuple[str, ...], key: str | None) -> Draft:
    """The draft with these columns as content and key, and the other suitable columns as metadata."""
    used = {*text, image, key}
    left = {column.name: why for column in look.columns if column.name not in used and (why := _why_left(column))}
    metadata = [column.name for column in look.columns if column.name not in used and column.name not in left]
    foreign = any(column.other_scripts > NOT_ENGLISH for column in look.columns if column.name in text)
    left.update(dict.fromkeys(metadata[MOST_METADATA:], f"more than {MOST_METADATA} columns"))
    kept = tuple(metadata[:MOST_METADATA])
    decimals = tuple(column.name for column in look.columns if column.decimals and column.name in kept)
    return replace(draft, key=key, text=text, image=image, metadata=kept, decimals=decimals, left=left, several_languages=foreign)


def corpus_name(uri: str) -> str:
    """A corpus name from the last part of a URI that is not a generic name such as `data`."""
    parts = [
        re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"\.\w{1,8}", "", part)).strip("_")
        for part in re.split(r"[/\\]", uri)
        if not set(part) & set("*?[{")
    ]
    names = [part.lower() for part in parts if re.match(r"[A-Za-z]", part)]
    specific = [name for name in names if name not in GENERIC_NAMES]
    return ["corpus", *names[-1:], *specific[-1:]][-1]


def choose_content(columns: tuple[ColumnLook, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The column of pictures, or those of text: the longest prose, preceded by a title."""
    pictures = [column for column in columns if column.pictures]
    prose = sorted((column for column in columns if is_prose(column)), key=_weight, reverse=True)
    if pictures and (pictures[0].binary or not prose):
        return pictures[0].name, ()
    texts = prose or [
        column for column in columns if column.type == "varchar" and not column.binary and column.name.lower() in CONTENT_NAMES
    ]
    if not texts:
        return None, ()
    title = _first(columns, lambda column: column.type == "varchar" and column.name.lower() in TITLE_NAMES and column is not texts[0])
    return None, tuple(column.name for column in (title, texts[0]) if column)


def is_prose(column: ColumnLook) -> bool:
    """Whether a column holds sentences."""
    return column.type == "varchar" and not column.binary and not column.pictures and column.words >= WORDS_OF_PROSE


def _weight(column: ColumnLook) -> tuple[bool, float]:
    return column.name.lower() in CONTENT_NAMES, column.characters * column.filled


def choose_key(columns: tuple[ColumnLook, ...], content: tuple[str, ...]) -> str | None:
    """The key column: chosen by name from the columns that are unique in the sample; None if none has such a name."""
    unique = [column for column in columns if column.name not in content and can_be_key(column)]
    named, numbered = (
        [column for name in names for column in unique if column.name.lower() == name] for names in (KEY_NAMES, NUMBERS_OF_THINGS)
    )
    candidates = [*named, *(column for column in unique if KEY_ENDS.search(column.name)), *numbered]
    return candidates[0].name if candidates else None


def can_be_key(column: ColumnLook) -> bool:
    """Whether every sampled row has a distinct value of a type that a key may have."""
    return (
        column.type in KEYS_ARE
        and column.filled == 1
        and column.distinct == 1
        and column.characters <= LONGEST_KEY
        and not is_prose(column)
    )


def _why_left(column: ColumnLook) -> str | None:
    if not column.filled:
        return "empty"
    if column.binary:
        return "bytes"
    if column.type not in METADATA_TYPES:
        return "a list" if column.type.endswith("[]") else "nested"
    return "long text" if column.characters > LONGEST_METADATA else None


def _first(columns: tuple[ColumnLook, ...], fits: Callable[[ColumnLook], bool]) -> ColumnLook | None:
    return next(filter(fits, columns), None)
