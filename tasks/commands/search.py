"""Search: by meaning words, or a picture, are embedded as the job embeds questions and compared with its rows; by words the server does it alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tasks.adapters.checkpoint.span_file import Spool
from tasks.adapters.rows.vectors.sparse_vectors import unit_vector
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.gate import Question, SearchMode
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.retrieval_quality import Evaluation, PrecisionQuality
from tasks.run.plan import Plan, other_words
from tasks.run.preflight import Inspected, locate_job, open_target
from tasks.run.promotion.evaluation import measure_quality
from tasks.run.promotion.passages import passages_of
from tasks.run.promotion.precision_quality import compare_precisions
from tasks.run.promotion.query_encoder import QueryEncoder
from tasks.run.promotion.search_modes import answer, check_mode, explain, vector_mode

if TYPE_CHECKING:
    from tasks.worker.base import Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWay:
    """How a question is asked. `mode` None: by meaning and by words where the collection has both; `explain`: with the rank of each hit by either;
    `all_chunks`: not the best chunk of each document alone; `named`: what stands before the name of an option in messages.
    """

    mode: SearchMode | None = None
    fusion: Fusion = field(default_factory=Fusion)
    explain: bool = False
    all_chunks: bool = False
    named: str = "--"


def ask(
    job: Job, k: int, *, text: str | None = None, picture: str | None = None, expression: str = "", way: SearchWay | None = None
) -> list[Hit]:
    """The k best rows for some words, or the nearest to a picture (a local path or a URI), whatever the rows are.

    Raises:
        BadInput: this encoder knows no pictures, or as `Searcher.search`.
    """
    way = way or SearchWay()
    if text is not None:
        with Searcher(job) as searcher:
            return searcher.search(text, k, expression=expression, way=way)
    if way.mode in ("text", "hybrid"):
        raise BadInput(f"--mode {way.mode}: a picture has no words: leave --mode out")
    if "image" not in ENCODERS[job.encoder.kind].modalities:
        raise BadInput(f"--image: an encoder of kind '{job.encoder.kind}' embeds text only: search by image needs an open-clip job")
    with Searcher(job) as searcher:
        return searcher.search_picture(str(picture), k, expression=expression, way=way)


class CollectionSearch:
    """A collection, and the encoder that made it, which is loaded with the first question; for many questions, from any threads."""

    def __init__(self, collection: Collection, encoder: QueryEncoder) -> None:
        self._collection, self._encoder = collection, encoder

    def load(self) -> None:
        """Load the encoder, if the first question shall not wait for it."""
        self._encoder.load()

    def wait_for_encoder(self, expression: str, way: SearchWay) -> float:
        """Load the encoder, if a question asked in that way needs it; the seconds that it took. Raises as `search`."""
        if self._encoder.loaded or (way.mode == "text" and not way.explain):
            return 0.0
        self._check_filter(self.made(), expression, way)
        began = time.monotonic()
        self.load()
        return time.monotonic() - began

    def search(self, text: str, k: int, *, expression: str = "", way: SearchWay | None = None) -> list[Hit]:
        """The k best rows for some words.

        Raises:
            BadInput: nothing was loaded with this encoder, the collection has no full text, or the filter is not one.
        """
        if not text.strip():
            raise BadInput("the text to search for is empty")
        way, made = way or SearchWay(), self.made()
        mode = check_mode(made, way.mode, f"{way.named}mode")
        self._check_filter(made, expression, way)
        vectors = None if mode == "text" and not way.explain else self._encoder.embed_queries([text])
        return self._best(made, mode, vectors, text, k=k, expression=expression, way=way)

    def search_picture(self, picture: str, k: int, *, expression: str = "", way: SearchWay | None = None) -> list[Hit]:
        """The k nearest rows to a picture, which is at a local path or a URI.

        Raises:
            BadInput: as `search`; or it is not there, is no picture, or is larger than encoder.max_pixels.
        """
        way = way or SearchWay()
        self._check_filter(self.made(), expression, way)
        try:
            vectors = self._encoder.embed_pictures([picture])
        except BadInput as error:
            raise BadInput(f"--image '{picture}': {error}") from error
        return self._best(self.made(), "dense", vectors, "", k=k, expression=expression, way=way)

    def evaluate(self, questions: Sequence[Question], k: int, fusion: Fusion) -> Evaluation:
        """How well the collection answers, in every way in which it can be searched. Raises as `search`."""
        made = self.made()
        vectors = self._encoder.embed_queries([question.query for question in questions])
        return measure_quality(self._collection, made, vectors, questions, k, fusion=fusion)

    def compare_precisions(self, questions: Sequence[Question], k: int, plan: Plan, *, most: int) -> PrecisionQuality:
        """Compares a collection in 8 bits with float32; see `tasks.run.promotion.precision_quality.compare_precisions`."""
        return compare_precisions(plan, self._collection, self._encoder, questions, k, most=most)

    def passages(self, hits: Sequence[Hit]) -> dict[str, ChunkContext]:
        """By key, what stands around hits that are chunks."""
        return passages_of(self._collection, self.made(), hits)

    def made(self) -> CollectionSpec:
        """How the collection was made.

        Raises:
            BadInput: it is not there.
        """
        made_by = self._collection.describe()
        if made_by is None:
            raise BadInput(self._why_none())
        return made_by

    def _why_none(self) -> str:
        return f"collection '{self._collection.name}' does not exist any more"

    def _check_filter(self, made: CollectionSpec, expression: str, way: SearchWay) -> None:
        """Before a model is loaded for it, which takes seconds: the server is the one that knows what it takes."""
        if expression and not self._encoder.loaded:
            probe = replace(way, explain=False)
            self._best(made, vector_mode(made), unit_vector(made.dim, sparse=made.sparse), "", k=1, expression=expression, way=probe)

    def _best(
        self, made: CollectionSpec, mode: SearchMode, vectors: Vectors | None, text: str, *, k: int, expression: str, way: SearchWay
    ) -> list[Hit]:
        shown = [*(["text"] if made.store_text else []), *(field.name for field in made.fields)]
        how: dict[str, Any] = {"fusion": way.fusion, "expression": expression, "fields": shown}
        try:
            by_document = has_chunks(made.fields) and not way.all_chunks
            hits = answer(self._collection, mode, vectors, [text], k, by_document=by_document, **how)[0]
            return explain(self._collection, made, hits, vectors, text, expression=expression) if way.explain else hits
        except Permanent as error:
            if not expression:
                raise
            fields = ", ".join(["id", *shown])
            raise BadInput(
                f"{way.named}filter '{expression}' was refused ({error}): filter by the fields {fields}, as in id == \"...\""
            ) from error


class Searcher(CollectionSearch):
    """A loaded encoder before a job's own collection. It connects at the first question, and leaving lets go."""

    def __init__(self, job: Job) -> None:
        inspected = locate_job(job)
        self.record = _settled(inspected)
        self.plan = Plan(inspected, Spool.empty(), self.record)
        identity, facts = self.record.identity, self.record.facts
        self.encoder = QueryEncoder(job.encoder, model_path=inspected.model.path, precision=identity.precision, facts=facts)
        self.target = inspected.open_target()
        super().__init__(self.target.collection(self.plan.spec.name), self.encoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.target.close()

    def _why_none(self) -> str:
        ours = self.plan.spec
        nothing = f"collection '{ours.name}' does not exist: `kitestring run` makes it"
        otherwise = other_words(self.plan, self.target)
        return otherwise or _refused(self.plan.job, f"{ours.model} ({ours.fingerprint[:8]})") or nothing


def _settled(inspected: Inspected) -> EncoderRecord:
    record = inspected.pinned()
    if record is None:
        nothing = f"corpus '{inspected.job.corpus}' holds nothing made with this encoder: run the job first"
        raise BadInput(_refused(inspected.job, inspected.job.encoder.model_name) or nothing)
    return record


def _refused(job: Job, ours: str) -> str | None:
    """Why a search is refused: its encoder is not the collection's; names both."""
    with closing(open_target(job)) as target:
        live = target.resolve(job.target.collection)
        made = target.collection(live).describe() if live else None
    if made is None:
        return None
    return (
        f"'{job.target.collection}' points to '{made.name}', made with {made.model} ({made.fingerprint[:8]}), and this job searches "
        f"with {ours}, of which there is no collection: use the job that made it, or `kitestring run` this one"
    )
