"""Exports metrics and traces: pushed to a collector, or scraped from this process."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tasks.domain.errors import BadInput
from tasks.domain.job.services import MetricsSettings

FLUSH_SECONDS = 5.0  # longest wait for a collector at the end of a run
EXPORT_SECONDS = 10.0  # between two exports, unless OTEL_METRIC_EXPORT_INTERVAL is set
COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
log = logging.getLogger("kitestring.run")


def metrics_settings(settings: MetricsSettings | None) -> MetricsSettings | None:
    """The metrics settings of the job, or else of the standard OTEL variables; None: no metrics.

    Raises:
        BadInput: OTEL_METRICS_EXPORTER is not supported, or the extra is not installed.
    """
    settings = settings or _by_environment()
    if settings and find_spec("opentelemetry.sdk") is None:
        raise BadInput(
            "metrics: OpenTelemetry is not installed here: pip install -e '.[metrics]', or remove metrics and the OTEL variables"
        )
    return settings


def _by_environment() -> MetricsSettings | None:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    name = os.environ.get("OTEL_METRICS_EXPORTER") or ("otlp" if any(os.environ.get(each) for each in COLLECTOR) else "none")
    if name == "none":
        return None
    if name not in {"otlp", "prometheus"}:
        raise BadInput(f"OTEL_METRICS_EXPORTER={name} is not supported: use otlp, prometheus or none")
    host, port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1"), os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "9464")
    return MetricsSettings.model_validate({"exporter": name, "host": host, "port": port})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The meter of a run and, if traces are exported, its tracer."""

    meter: Any
    tracer: Any = None

    def span(self, name: str) -> AbstractContextManager[object]:
        """A span around one operation; does nothing without a tracer."""
        return self.tracer.start_as_current_span(f"kitestring.{name}") if self.tracer else nullcontext()


@contextmanager
def exported(settings: MetricsSettings, *, run: str) -> Iterator[Exported]:
    """Open the exporters; on exit, flushes the last measurements, for some seconds at most."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - optional dependency
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    names = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "kitestring"), "service.instance.id": run}
    resource = Resource.create(names)
    if settings.exporter == "prometheus":
        with _scraped(settings) as reader:
            yield Exported(meter=MeterProvider([reader], resource, shutdown_on_exit=False).get_meter("kitestring"))
        return
    provider = MeterProvider([_pushing(settings)], resource, shutdown_on_exit=False)
    tracing = _tracing(settings, resource)
    try:
        yield Exported(meter=provider.get_meter("kitestring"), tracer=tracing.get_tracer("kitestring"))
    finally:
        for each in (provider, tracing):
            each.force_flush(int(FLUSH_SECONDS * 1_000))
            each.shutdown()


def _pushing(settings: MetricsSettings) -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

    every = None if os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") else EXPORT_SECONDS * 1_000
    exporter = OTLPMetricExporter(endpoint=_path(settings, "metrics"), timeout=FLUSH_SECONDS)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=every, export_timeout_millis=FLUSH_SECONDS * 1_000)


def _tracing(settings: MetricsSettings, resource: Any) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_path(settings, "traces"), timeout=FLUSH_SECONDS)))
    return provider


def _path(settings: MetricsSettings, signal: str) -> str | None:
    """The OTLP path of a signal; None: decided by the OTEL variables."""
    return f"{settings.endpoint.rstrip('/')}/v1/{signal}" if settings.endpoint else None


@dataclass(slots=True)
class _Scrapes:
    """Counts scrapes, so that the end of a run can wait for one."""

    number: int = 0
    change: threading.Condition = field(default_factory=threading.Condition)

    def note(self) -> None:
        with self.change:
            self.number += 1
            self.change.notify_all()

    def wait_for_another(self, seconds: float) -> None:
        """Wait for two more scrapes, since the first may have begun before the last figures were set; returns at once if there was none so far."""
        with self.change:
            until, enough = time.monotonic() + seconds, self.number + 2
            while 0 < self.number < enough and (left := until - time.monotonic()) > 0:
                self.change.wait(left)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Log no requests."""


@contextmanager
def _scraped(settings: MetricsSettings) -> Iterator[Any]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
    from prometheus_client import REGISTRY, make_wsgi_app  # noqa: PLC0415

    reader, answer, scrapes = PrometheusMetricReader(), make_wsgi_app(REGISTRY), _Scrapes()

    def application(environment: Any, start: Any) -> Any:
        try:
            return answer(environment, start)
        finally:
            scrapes.note()

    try:
        server = make_server(settings.host, settings.port, application, WSGIServer, _Quiet)
    except OSError as error:
        log.warning("metrics: http://%s:%d cannot be served (%s): this run cannot be scraped", settings.host, settings.port, error.strerror)
        server = None
    if server:
        threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
    try:
        yield reader
    finally:
        if server:
            scrapes.wait_for_another(settings.linger_seconds)
            server.shutdown()
            server.server_close()
        reader.shutdown()
