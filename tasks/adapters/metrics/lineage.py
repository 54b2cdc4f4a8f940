"""OpenLineage events of a run: input, output and row count (https://openlineage.io/docs/spec)."""

from __future__ import annotations

import datetime as dt
import logging
import os
import uuid
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.services import LineageSettings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunState

PRODUCER = "urn:kitestring"  # OpenLineage requires a URI
SEND_SECONDS = 5.0  # timeout of an event
NAMES = uuid.UUID("7c2d9f54-5f0c-4b0e-9a6e-5b0f3f3f7d11")  # namespace of run ids, which OpenLineage requires to be UUIDs
log = logging.getLogger("kitestring.run")


def lineage_of(settings: LineageSettings | None) -> LineageSettings | None:
    """The lineage settings of the job, or else of OPENLINEAGE_URL; None: no events.

    Raises:
        BadInput: the extra is not installed.
    """
    url = os.environ.get("OPENLINEAGE_URL")
    if settings is None and url and os.environ.get("OPENLINEAGE_DISABLED", "").lower() != "true":
        settings = LineageSettings(url=url, namespace=os.environ.get("OPENLINEAGE_NAMESPACE", "kitestring"))
    if settings and find_spec("openlineage.client") is None:
        raise BadInput("lineage: OpenLineage is not installed here: pip install -e '.[lineage]', or remove lineage and OPENLINEAGE_URL")
    return settings


class Lineage:
    """Sends the events of one run. An event that cannot be sent is logged; it does not affect the run."""

    def __init__(self, settings: LineageSettings, job: Job, run: str) -> None:
        from openlineage.client import OpenLineageClient  # noqa: PLC0415 - optional dependency
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider  # noqa: PLC0415

        key = os.environ.get("OPENLINEAGE_API_KEY")
        auth = ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({})
        config = HttpConfig(url=settings.url, timeout=SEND_SECONDS, retry={"total": 1}, auth=auth)
        self._client, self._settings, self._job = OpenLineageClient(transport=HttpTransport(config)), settings, job
        self._run = str(uuid.uuid5(NAMES, f"{job.corpus}/{run}"))

    def start(self) -> None:
        """Report that the run has started."""
        from openlineage.client.event_v2 import RunState  # noqa: PLC0415

        self._send(RunState.START)

    def complete(self, rows: int, bytes_written: int) -> None:
        """Report that the run is complete, with `rows` verified rows in the collection."""
        from openlineage.client.event_v2 import RunState  # noqa: PLC0415

        self._send(RunState.COMPLETE, rows=rows, bytes_written=bytes_written)

    def fail(self, error: str) -> None:
        """Report that the run has failed."""
        from openlineage.client.event_v2 import RunState  # noqa: PLC0415

        self._send(RunState.FAIL, error=error)

    def _send(self, state: RunState, *, rows: int | None = None, bytes_written: int | None = None, error: str = "") -> None:
        from openlineage.client import event_v2  # noqa: PLC0415
        from openlineage.client.facet_v2 import error_message_run, output_statistics_output_dataset  # noqa: PLC0415

        facets: dict[str, Any] = {}
        if error:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="python")
        written: dict[str, Any] = {}
        if rows is not None:
            written["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows, size=bytes_written
            )
        source, target = dataset(self._job.source.uri), self._job.target
        event = event_v2.RunEvent(
            eventType=state,
            eventTime=dt.datetime.now(dt.UTC).isoformat(),
            run=event_v2.Run(runId=self._run, facets=facets),
            job=event_v2.Job(namespace=self._settings.namespace, name=self._job.corpus),
            producer=PRODUCER,
            inputs=[event_v2.InputDataset(*source)],
            outputs=[event_v2.OutputDataset(dataset(target.address)[0], target.collection, outputFacets=written)],
        )
        try:
            self._client.emit(event)
        except Exception as failure:  # noqa: BLE001 - lineage must not fail a run
            log.warning("lineage: %s did not accept the event %s: %s", self._settings.url, state.value, failure)


def dataset(uri: str) -> tuple[str, str]:
    """Namespace and name by OpenLineage's naming rules: s3://bucket and the key; file and the path; a server and its path."""
    place = urlsplit(uri)
    if place.scheme in {"", "file"}:
        return "file", place.path or uri
    host = place.hostname or ""
    port = f":{place.port}" if place.port else ""
    return f"{place.scheme}://{host}{port}", place.path.lstrip("/") or "/"
