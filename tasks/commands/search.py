"""Search: words, or a picture, are embedded as the job embeds its rows, and compared with them."""

from __future__ import annotations

from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tasks.adapters.checkpoint.span_file import Spool
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.encoder import ENCODERS, EncoderRecord
from tasks.domain.job.job import Job
from tasks.domain.target.collection import Hit
from tasks.run.plan import Plan
from tasks.run.preflight import Inspected, locate_job, open_target
from tasks.run.promotion.query_encoder import load_encoder

if TYPE_CHECKING:
    from tasks.worker.base import Vectors


def ask(job: Job, k: int, *, text: str | None = None, picture: str | None = None, expression: str = "") -> list[Hit]:
    """The k nearest rows to some words, or to a picture (a local path or a URI), whatever the rows are.

    Raises:
        BadInput: this encoder knows no pictures, or as `Searcher.search`.
    """
    if text is not None:
        with Searcher(job) as searcher:
            return searcher.search(text, k, expression=expression)
    if "image" not in ENCODERS[job.encoder.kind].modalities:
        raise BadInput(f"--image: an encoder of kind '{job.encoder.kind}' embeds text only: search by image needs an open-clip job")
    with Searcher(job) as searcher:
        return searcher.search_picture(str(picture), k, expression=expression)


class Searcher:
    """A loaded encoder before an open collection; for one question or for many. It connects at the first, and leaving lets go."""

    def __init__(self, job: Job) -> None:
        inspected = locate_job(job)
        self._record = _settled(inspected)
        self._plan = Plan(inspected, Spool.empty(), self._record)
        self._encoder = load_encoder(job.encoder, model_path=inspected.model.path, precision=self._record.identity.precision)
        self._target = inspected.open_target()
        self._collection = self._target.collection(self._plan.spec.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._target.close()

    def search(self, text: str, k: int, *, expression: str = "") -> list[Hit]:
        """The k nearest rows to some words.

        Raises:
            BadInput: nothing was loaded with this encoder, or the filter is not one.
        """
        if not text.strip():
            raise BadInput("the text to search for is empty")
        return self._nearest(self._encoder.embed_queries([text]), k, expression)

    def search_picture(self, picture: str, k: int, *, expression: str = "") -> list[Hit]:
        """The k nearest rows to a picture, which is at a local path or a URI.

        Raises:
            BadInput: as `search`; or it is not there, is no picture, or is larger than encoder.max_pixels.
        """
        try:
            vectors = self._encoder.embed_pictures([picture])
        except BadInput as error:
            raise BadInput(f"--image '{picture}': {error}") from error
        return self._nearest(vectors, k, expression)

    def _nearest(self, vectors: Vectors, k: int, expression: str) -> list[Hit]:
        made_by = self._collection.describe()
        if made_by is None:
            ours = self._plan.spec
            nothing = f"collection '{ours.name}' does not exist: `kitestring run` makes it"
            raise BadInput(_refused(self._plan.job, f"{ours.model} ({ours.fingerprint[:8]})") or nothing)
        shown = [*(["text"] if made_by.store_text else []), *(field.name for field in made_by.fields)]
        try:
            return self._collection.search(vectors, k, expression=expression, fields=shown)[0]
        except Permanent as error:
            if not expression:
                raise
            fields = ", ".join(["id", *shown])
            raise BadInput(f"--filter '{expression}' was refused ({error}): filter by the fields {fields}, as in id == \"...\"") from error


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
