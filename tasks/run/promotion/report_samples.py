"""Samples of rows for the report: a map of their vectors, and example searches with their hits.

Failures here do not fail a run: the report leaves the section out and says why. Only a damaged part is raised, so that the run repairs it.
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

HITS, FIELDS = 4, 8  # hits of a search, metadata fields of a hit
TEXT_CHARACTERS, VALUE_CHARACTERS, KEY_CHARACTERS = 280, 80, 200  # shown of a row's text, of another field, of a key
WORDS_CHARACTERS = 1_000  # characters of a row's text that a search by words uses
PICTURE_PIXELS = 200  # pixels of a picture
READ = 64 * 2**20  # the most bytes of the source that are read for pictures
PICTURE_BYTES = 500_000  # the most bytes of all pictures in the page
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
        """The result of `make`; None if it fails, which `left_out` records.

        Raises:
            Damaged: a sealed part is damaged, and the run repairs it.
        """
        try:
            return make()
        except Exception as error:
            if isinstance(error, Damaged) and self.mends(error):
                raise
            self.left_out[section] = str(error) if isinstance(error, KitestringError) else f"{type(error).__name__}: please report this"
            log.warning("the report has no %s: %s: %s", section, type(error).__name__, error)
            return None


def show_rows(
    plan: Plan, collection: Collection, drawn: PartDraw, queries: Sequence[GateQuery], mends: Callable[[Damaged], bool]
) -> ReportSamples:
    """Read the drawn parts and search the collection. `mends`: whether the run repairs a damaged part, which is then raised."""
    samples, settings = ReportSamples(mends=mends), plan.job.report
    if not settings.examples:
        return samples
    rows = samples.attempt("projection", lambda: read_sample(drawn.parts(), plan.checkpoint.verified_part))
    if rows is None:
        return samples
    samples.projection = samples.attempt("projection", lambda: project(rows, plan.spec.dim, plan.spec.fields, settings.colour_by))
    samples.examples = samples.attempt("examples", lambda: _examples(plan, collection, rows, queries)) or ()
    samples.pictures = samples.attempt("pictures", lambda: _pictures(plan, collection, samples.examples)) or {}
    return samples


def _examples(plan: Plan, collection: Collection, sample: pa.Table, queries: Sequence[GateQuery]) -> tuple[Example, ...]:
    """Example searches with their hits, by words as well if the collection has full text."""
    count = min(plan.job.report.examples, sample.num_rows)
    rows = sample.take([(2 * place + 1) * sample.num_rows // (2 * count) for place in range(count)])
    questions = queries[: plan.job.report.examples]
    vectors = np.concatenate([*(question.vector for question in questions), upsert_vectors(rows, plan.spec.dim)])
    fields = [*(["text"] if plan.spec.store_text else []), *(each.name for each in plan.spec.fields)]
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
        _example(mode, name, others := _others(name, hits, by_document=by_document), passages_of(collection, plan.spec, others))
        for name, each in zip(named, zip(*answers, strict=True), strict=True)
        for mode, hits in zip(modes, each, strict=True)
    )


def _others(question: tuple[str, str, str], hits: Sequence[Hit], *, by_document: bool) -> list[Hit]:
    """The hits without the row that was searched with, and without its document."""
    kind, key, _ = question
    own = split_chunk_key(key)[0] if by_document and kind == "row" else None
    return [hit for hit in hits if kind == "question" or (hit.id != key and (own is None or hit.fields["document"] != own))][:HITS]


def _example(mode: SearchMode, question: tuple[str, str, str], hits: Sequence[Hit], around: Mapping[str, ChunkContext]) -> Example:
    kind, asked, text = question
    values = {"kind": kind, "mode": mode, "asked": asked[:KEY_CHARACTERS], "text": _short(text, TEXT_CHARACTERS)}
    return Example.model_validate({**values, "hits": [_hit(hit, around.get(hit.id)) for hit in hits]})


def _hit(hit: Hit, around: ChunkContext | None) -> ExampleHit:
    present = ((name, value) for name, value in hit.fields.items() if name != "text" and value is not None)
    values = {name: _short(value, VALUE_CHARACTERS) for name, value in islice(present, FIELDS)}
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
    pictures: dict[str, bytes] = {}
    with suppress(KitestringError):  # the source is gone: hits are shown without pictures
        for key, picture in pictures_of(plan, collection, list(dict.fromkeys(keys)), side=PICTURE_PIXELS, budget=READ):
            if sum(map(len, pictures.values())) + len(picture) <= PICTURE_BYTES:
                pictures[key] = picture
    return pictures
