"""Search: a query is embedded as the job embeds its rows, and compared with them."""

from __future__ import annotations

from tasks.adapters.spool import Spool
from tasks.domain.collection import Hit
from tasks.domain.encoder import EncoderRecord
from tasks.domain.errors import BadInput
from tasks.domain.job import Job
from tasks.load import opened
from tasks.plan import Plan
from tasks.preflight import Inspected, locate_job


class Searcher:
    """A loaded encoder before an open collection; for one question or for many."""

    def __init__(self, job: Job) -> None:
        inspected = locate_job(job)
        self._record = _settled(inspected)
        self._plan = Plan(inspected, Spool.empty(), self._record)
        self._encoder = _load(inspected, self._record)

    def search(self, text: str, k: int, *, expression: str = "") -> list[Hit]:
        """The k nearest rows to some words.

        Raises:
            BadInput: nothing was loaded with this encoder, or the filter is not one.
        """
        if not text.strip():
            raise BadInput("the text to search for is empty")
        with opened(self._plan) as collection:
            made_by = collection.describe()
            if made_by is None:
                raise BadInput(f"collection '{self._plan.spec.name}' does not exist: `kitestring run` makes it")
            shown = [*(["text"] if made_by.store_text else []), *(field.name for field in made_by.fields)]
            return collection.search(self._encoder.embed_queries([text]), k, expression=expression, fields=shown)[0]


def _settled(inspected: Inspected) -> EncoderRecord:
    record = inspected.pinned()
    if record is None:
        raise BadInput(f"corpus '{inspected.job.corpus}' holds nothing made with this encoder: run the job first")
    return record


def _load(inspected: Inspected, record: EncoderRecord):  # type: ignore[no-untyped-def]  # noqa: ANN202  naming the type would import torch
    from tasks.worker.encoders import open_encoder  # noqa: PLC0415  torch is loaded by who searches, not by who imports

    return open_encoder(inspected.job.encoder, model_path=inspected.model.path, precision=record.identity.precision)
