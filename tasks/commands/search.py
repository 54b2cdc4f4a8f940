"""Search a job's collection by vectors (words or a picture are embedded as the job embeds queries), by words on the server, or by both."""

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
class SearchOptions:
    """Options of a search. `mode` None: hybrid if the collection has full text, else by vectors; `explain`: add the rank of each hit by
    meaning and by words; `all_chunks`: every chunk may be a hit, not only the best of each document; `named`: prefix of options in messages.
    """

    mode: SearchMode | None = None
    fusion: Fusion = field(default_factory=Fusion)
    explain: bool = False
    all_chunks: bool = False
    named: str = "--"


def ask(
    job: Job, k: int, *, text: str | None = None, picture: str | None = None, expression: str = "", way: SearchOptions | None = None
) -> list[Hit]:
    """The k best rows for words, or the k nearest to a picture (a local path or a URI).

    Raises:
        BadInput: this encoder embeds no pictures, or as `Searcher.search`.
    """
    way = way or SearchOptions()
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
    """A collection and the encoder that made it, for many queries. Loads the encoder with the first query. Thread-safe."""

    def __init__(self, collection: Collection, encoder: QueryEncoder) -> None:
        self._collection, self._encoder = collection, encoder

    def load(self) -> None:
        """Load the encoder now, so that the first query need not wait for it."""
        self._encoder.load()

    def wait_for_encoder(self, expression: str, way: SearchOptions) -> float:
        """Load the encoder if a search with these options needs it. Returns the seconds that it took. Raises as `search`."""
        if self._encoder.loaded or (way.mode == "text" and not way.explain):
            return 0.0
        self._check_filter(self.spec(), expression, way)
        began = time.monotonic()
        self.load()
        return time.monotonic() - began

    def search(self, text: str, k: int, *, expression: str = "", way: SearchOptions | None = None) -> list[Hit]:
        """The k best rows for words.

        Raises:
            BadInput: nothing was loaded with this encoder, the collection has no full text, or the filter is invalid.
        """
        if not text.strip():
            raise BadInput("the text to search for is empty")
        way, spec = way or SearchOptions(), self.spec()
        mode = check_mode(spec, way.mode, f"{way.named}mode")
        self._check_filter(spec, expression, way)
        vectors = None if mode == "text" and not way.explain else self._encoder.embed_queries([text])
        return self._best(spec, mode, vectors, text, k=k, expression=expression, way=way)

    def search_picture(self, picture: str, k: int, *, expression: str = "", way: SearchOptions | None = None) -> list[Hit]:
        """The k nearest rows to a picture, given by a local path or a URI.

        Raises:
            BadInput: as `search`; or the picture does not exist, is not a picture, or is larger than encoder.max_pixels.
        """
        way = way or SearchOptions()
        self._check_filter(self.spec(), expression, way)
        try:
            vectors = self._encoder.embed_pictures([picture])
        except BadInput as error:
            raise BadInput(f"--image '{picture}': {error}") from error
        return self._best(self.spec(), "dense", vectors, "", k=k, expression=expression, way=way)

    def evaluate(self, questions: Sequence[Question], k: int, fusion: Fusion) -> Evaluation:
        """Evaluate the collection in every search mode. Raises as `search`."""
        spec = self.spec()
        vectors = self._encoder.embed_queries([question.query for question in questions])
        return measure_quality(self._collection, spec, vectors, questions, k, fusion=fusion)

    def compare_precisions(self, questions: Sequence[Question], k: int, plan: Plan, *, most: int) -> PrecisionQuality:
        """Compares a collection in 8 bits with float32; see `tasks.run.promotion.precision_quality.compare_precisions`."""
        return compare_precisions(plan, self._collection, self._encoder, questions, k, most=most)

    def passages(self, hits: Sequence[Hit]) -> dict[str, ChunkContext]:
        """The text around hits that are chunks, by key."""
        return passages_of(self._collection, self.spec(), hits)

    def spec(self) -> CollectionSpec:
        """The collection's description.

        Raises:
            BadInput: the collection does not exist.
        """
        spec = self._collection.describe()
        if spec is None:
            raise BadInput(self._why_none())
        return spec

    def _why_none(self) -> str:
        return f"collection '{self._collection.name}' no longer exists"

    def _check_filter(self, spec: CollectionSpec, expression: str, way: SearchOptions) -> None:
        """Have the server check the filter before the model is loaded, which takes seconds."""
        if expression and not self._encoder.loaded:
            probe = replace(way, explain=False)
            self._best(spec, vector_mode(spec), unit_vector(spec.dim, sparse=spec.sparse), "", k=1, expression=expression, way=probe)

    def _best(
        self, spec: CollectionSpec, mode: SearchMode, vectors: Vectors | None, text: str, *, k: int, expression: str, way: SearchOptions
    ) -> list[Hit]:
        names = [*(["text"] if spec.store_text else []), *(field.name for field in spec.fields)]
        how: dict[str, Any] = {"fusion": way.fusion, "expression": expression, "fields": names}
        try:
            by_document = has_chunks(spec.fields) and not way.all_chunks
            hits = answer(self._collection, mode, vectors, [text], k, by_document=by_document, **how)[0]
            return explain(self._collection, spec, hits, vectors, text, expression=expression) if way.explain else hits
        except Permanent as error:
            if not expression:
                raise
            fields = ", ".join(["id", *names])
            raise BadInput(
                f"{way.named}filter '{expression}' was refused ({error}): filter by the fields {fields}, as in id == \"...\""
            ) from error


class Searcher(CollectionSearch):
    """Search of a job's own collection. Connects at the first query; leaving the context closes the connection."""

    def __init__(self, job: Job) -> None:
        inspected = locate_job(job)
        self.record = _pinned(inspected)
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
        missing = f"collection '{ours.name}' does not exist: `kitestring run` creates it"
        other_full_text = other_words(self.plan, self.target)
        return other_full_text or _refused(self.plan.job, f"{ours.model} ({ours.fingerprint[:8]})") or missing


def _pinned(inspected: Inspected) -> EncoderRecord:
    record = inspected.pinned()
    if record is None:
        nothing = f"corpus '{inspected.job.corpus}' has no vectors of this encoder: run the job first"
        raise BadInput(_refused(inspected.job, inspected.job.encoder.model_name) or nothing)
    return record


def _refused(job: Job, ours: str) -> str | None:
    """The error for a search whose encoder is not that of the live collection; names both. None if no collection is live."""
    with closing(open_target(job)) as target:
        live = target.resolve(job.target.collection)
        spec = target.collection(live).describe() if live else None
    if spec is None:
        return None
    return (
        f"'{job.target.collection}' points to '{spec.name}', made with {spec.model} ({spec.fingerprint[:8]}), and this job searches "
        f"with {ours}, which has no collection: use the job that made it, or `kitestring run` this one"
    )
