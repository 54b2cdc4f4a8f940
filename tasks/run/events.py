"""Events of a run, for automations: `kitestring.run.started`, `.shard.sealed`, `.shard.loaded`, `.run.verified`, ...

An event is about a corpus (`kitestring.corpus.{corpus}`); Prefect adds the flow run, its deployment and its tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from pydantic import JsonValue

from tasks.domain.errors import RunFailed
from tasks.run.artifacts import show_failure
from tasks.run.later_retry import retry_later

EVENT_ERROR_CHARACTERS = 500  # characters of an error that an event carries


class Events:
    """Emits the events of one corpus; does nothing outside a flow run."""

    def __init__(self, corpus: str, run: str = "") -> None:
        self._corpus = corpus
        self._about: dict[str, JsonValue] = {"corpus": corpus, **({"run": run} if run else {})}

    def __call__(self, what: str, payload: Mapping[str, JsonValue] | None = None) -> None:
        """Emit `kitestring.{what}`. Returns at once; a thread of Prefect sends the event."""
        if FlowRunContext.get() is None and TaskRunContext.get() is None:
            return
        resource = {"prefect.resource.id": f"kitestring.corpus.{self._corpus}", "prefect.resource.name": self._corpus}
        emit_event(f"kitestring.{what}", resource=resource, payload={**self._about, **(payload or {})})

    @contextmanager
    def of_failure(self) -> Iterator[None]:
        """Emit an event for an error of the body; if the run has no report, show the error in the report's artifact."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, RunFailed):
                show_failure(self._corpus, error)
            what = "run.retried" if retry_later(error) else "run.failed"
            self(what, {"error": str(error)[:EVENT_ERROR_CHARACTERS], "kind": type(error).__name__})
            raise
