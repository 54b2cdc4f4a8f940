"""Some of the rows themselves, for the report: a picture of their vectors, and searches with their hits.

Nothing here may fail a run: what cannot be made is left out of the report, which says why. Only a damaged part is raised, for the run to mend.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tasks.adapters.report.vector_map import PartDraw, project, read_sample
from tasks.adapters.rows.collection_rows import upsert_vectors
from tasks.domain.errors import Damaged, KitestringError
from tasks.domain.job.gate import SearchMode
from tasks.domain.ports import Collection
from tasks.domain.report.figures import Example, ExampleHit, Projection
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.chunk_fields import has_chunks, split_chunk_key
from tasks.domain.target.collection import Hit
from tasks.domain.target.retrieval_quality import PrecisionQuality
from tasks.run.plan import Plan
from tasks.run.promotion.passages import passages_of
from tasks.run.promotion.promotion_gate import GateQuery
from tasks.run.promotion.search_modes import answer, modes_of
from tasks.run.promotion.source_images import pictures_of

HITS, FIELDS = 4, 8  # of each search, and metadata fields of each hit
TEXT_CHARACTERS, VALUE_CHARACTERS, KEY_CHARACTERS = 280, 80, 200  # characters that are shown of a row's text, of another field, of a key
WORDS_CHARACTERS = 1_000  # characters of a row's text that are searched for
PICTURE_PIXELS = 200  # pixels of a picture
READ = 64 * 2**20  # bytes of the source that may be read for pictures
PICTURE_BYTES = 500_000  # bytes of all pictures in the page
log = logging.getLogger("kitestring.report")
T = TypeVar("T")


@dataclass(slots=True)
class ReportSamples:
    """Samples for the report, and the reason for each section of the page that has none."""

    precision: PrecisionQuality | None = None
    projection: Projection | None = None
    examples: tuple[Example, ...] = ()
    pictures: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    mends: Callable[[Damaged], bool] = lambda _damage: False

    def attempt(self, section: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; None where it cannot.

        Raises:
            Damaged: a sealed part is damaged, and the run repairs it.
        """
        try:
            return make()
        except Exception as error:
            if isinstance(error, Damaged) and self.mends(error):
                raise
            self.left_out[section] = str(error) if isinstance(error, KitestringError) else f"{type(error).__name__}: please report this"
            log.warning("the report is without its %s: %s: %s", section, type(error).__name__, error)
            return None


def show_rows(
    plan: Plan, collection: Collection, drawn: PartDraw, asked: Sequence[GateQuery], mends: Callable[[Damaged], bool]
) -> ReportSamples:
    """Read the parts that were drawn, and ask the collection some questions. `mends`: whether a damaged part is raised."""
    shown, settings = ReportSamples(mends=mends), plan.job.report
    if not settings.examples:
        return shown
    sample = shown.attempt("projection", lambda: read_sample(drawn.parts(), plan.checkpoint.verified_part))
    if sample is None:
        return shown
    shown.projection = shown.attempt("projection", lambda: project(sample, plan.spec.dim, plan.spec.fields, settings.colour_by))
    shown.examples = shown.attempt("examples", lambda: _examples(plan, collection, sample, asked)) or ()
    shown.pictures = shown.attempt("pictures", lambda: _pictures(plan, collection, shown.examples)) or {}
    return shown


def _examples(plan: Plan, collection: Collection, sample: pa.Table, asked: Sequence[GateQuery]) -> tuple[Example, ...]:
    """Searches with their hits; each by words as well where the collection has full text."""
    count = min(plan.job.report.examples, sample.num_rows)
    rows = sample.take([(2 * place + 1) * sample.num_rows // (2 * count) for place in range(count)])
    questions = asked[: plan.job.report.examples]
    vectors = np.concatenate([*(question.vector for question in questions), upsert_vectors(rows, plan.spec.dim)])
    fields = [*(["text"] if plan.spec.store_text else []), *(wanted.name for wanted in plan.spec.fields)]
    keys, texts = rows["id"].to_pylist(), rows["text"].to_pylist() if "text" in rows.column_names else [""] * count
    named = [
        *(("question", one.query, "") for one in questions),
        *(("row", key, text or "") for key, text in zip(keys, texts, strict=True)),
    ]
    words = [(text or name)[:WORDS_CHARACTERS] for _, name, text in named]
    modes = modes_of(plan.spec)[:2]
    by_document = has_chunks(plan.spec.fields)
    answers = [answer(collection, mode, vectors, words, HITS + 1, fields=fields, by_document=by_document) for mode in modes]
    return tuple(
        _example(mode, name, found := _others(name, hits, by_document=by_document), passages_of(collection, plan.spec, found))
        for name, each in zip(named, zip(*answers, strict=True), strict=True)
        for mode, hits in zip(modes, each, strict=True)
    )


def _others(asked: tuple[str, str, str], hits: Sequence[Hit], *, by_document: bool) -> list[Hit]:
    """Without the row that is asked for, and its document."""
    kind, key, _ = asked
    own = split_chunk_key(key)[0] if by_document and kind == "row" else None
    return [hit for hit in hits if kind == "question" or (hit.id != key and (own is None or hit.fields["document"] != own))][:HITS]


def _example(mode: SearchMode, question: tuple[str, str, str], hits: Sequence[Hit], around: Mapping[str, ChunkContext]) -> Example:
    kind, asked, text = question
    told = {"kind": kind, "mode": mode, "asked": asked[:KEY_CHARACTERS], "text": _short(text, TEXT_CHARACTERS)}
    return Example.model_validate({**told, "hits": [_hit(hit, around.get(hit.id)) for hit in hits]})


def _hit(hit: Hit, around: ChunkContext | None) -> ExampleHit:
    told = ((name, value) for name, value in hit.fields.items() if name != "text" and value is not None)
    values = {name: _short(value, VALUE_CHARACTERS) for name, value in islice(told, FIELDS)}
    passage = around and around.model_copy(
        update={
            "document": around.document[:KEY_CHARACTERS],
            "before": _short(around.before[::-1], VALUE_CHARACTERS)[::-1],
            "after": _short(around.after, VALUE_CHARACTERS),
        }
    )
    return ExampleHit(
        id=hit.id[:KEY_CHARACTERS], score=hit.score, text=_short(hit.fields.get("text"), TEXT_CHARACTERS), fields=values, passage=passage
    )


def _short(value: object, most: int) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _pictures(plan: Plan, collection: Collection, examples: Sequence[Example]) -> dict[str, bytes]:
    keys = [key for example in examples for key in ([example.asked] if example.kind == "row" else []) + [hit.id for hit in example.hits]]
    found: dict[str, bytes] = {}
    with suppress(KitestringError):  # a source that is gone: the hits are shown without
        for key, picture in pictures_of(plan, collection, list(dict.fromkeys(keys)), side=PICTURE_PIXELS, budget=READ):
            if sum(map(len, found.values())) + len(picture) <= PICTURE_BYTES:
                found[key] = picture
    return found
