"""What a run measures, and where it goes."""

from __future__ import annotations

import json
import logging
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.metrics import exporters
from tasks.adapters.metrics.exporters import exported, metrics_settings
from tasks.adapters.metrics.instruments import RunInstruments
from tasks.adapters.metrics.lineage import dataset, lineage_of
from tasks.adapters.processes import gpu_usage
from tasks.adapters.processes.gpu_usage import GpuMeter
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.job import Job
from tasks.domain.job.services import LineageSettings, MetricsSettings
from tasks.domain.report.figures import RankWork
from tasks.run.observers.observability import observed
from tasks.run.progress import Journal
from tests.builders.checkpoints import snapshot
from tests.servers.milvus import free_ports

JOB = Job.model_validate({"corpus": "birds", "source": {"kind": "jsonl", "uri": "s3://lake/birds"}, "encoder": {"model": "some/model"}})
LABELS = {"corpus": "birds", "flow": "embed-corpus"}


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Takes what is posted to it: an address, and what came to which path."""
    came: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()


def scraped(port: int) -> dict[str, float]:
    """Every series of one scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("kitestring")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def test_every_figure_of_a_run_can_be_scraped(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    policy = RetryPolicy(what="milvus", sleep=lambda _seconds: None)
    work = (RankWork(rank=0, rows=30, bytes=7_000), RankWork(rank=1, rows=12, bytes=500))
    now = snapshot(
        encoded=42,
        reused=10,
        cached=4,
        quarantined=3,
        duplicates=2,
        loaded=40,
        removed=1,
        tokens=900,
        total=57,
        shards=5,
        shards_sealed=4,
        shards_loaded=1,
        stages={"encode": 2.5},
        encoding=EncodingProgress(work=work, startup={"load": 3.0}),
    )
    with exported(MetricsSettings(exporter="prometheus", port=port, linger_seconds=0), run="r") as out:
        RunInstruments(out.meter, LABELS)(now)
        policy.start().wait()
        told = scraped(port)
    of = 'corpus="birds",'

    def figure(name: str, label: str = "") -> float:
        [value] = [value for series, value in told.items() if series.startswith(name + "{") and of in series and label in series]
        return value

    fates = {"encoded": 42, "reused": 6, "cached": 4, "quarantined": 3, "duplicate": 2, "loaded": 40, "removed": 1}
    assert {fate: figure("kitestring_rows_total", f'fate="{fate}"') for fate in fates} == fates
    assert figure("kitestring_rank_rows_total", 'rank="1"') == 12
    assert (figure("kitestring_tokens_total"), figure("kitestring_bytes_total")) == (900, 7_500)
    assert (figure("kitestring_rows_expected"), figure("kitestring_queue_shards")) == (57, 3)
    assert figure("kitestring_stage_duration_seconds_total", 'stage="start-up"') == 3.0
    assert figure("kitestring_retries_total", 'what="milvus"') >= 1
    assert figure("kitestring_run_failed") == 0
    assert figure("kitestring_run_duration_seconds") == 1.0


def test_a_run_waits_for_the_last_scrape_only_where_it_was_scraped_before(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    settings = MetricsSettings(exporter="prometheus", port=port, linger_seconds=60)
    waits = threading.Event()
    wait = exporters._Scrapes.wait_for_another

    def noted(scrapes: Any, seconds: float) -> None:
        waits.set()
        wait(scrapes, seconds)

    monkeypatch.setattr(exporters._Scrapes, "wait_for_another", noted)
    with exported(settings, run="nobody scrapes"):
        pass  # and it does not take a minute

    def scrape_again() -> None:
        waits.wait(30)
        for _ in range(2):
            scraped(port)

    waits.clear()
    scraper = threading.Thread(target=scrape_again)
    scraper.start()
    with exported(settings, run="it is scraped"):
        scraped(port)
    scraper.join(30)
    assert not scraper.is_alive()


def test_a_port_that_is_taken_costs_a_line_and_no_run(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, caplog.at_level(logging.WARNING):
        port = taken.getsockname()[1]
        with exported(MetricsSettings(exporter="prometheus", port=port), run="r") as out:
            RunInstruments(out.meter, LABELS)(snapshot())
    assert f"http://127.0.0.1:{port} cannot be served (Address already in use)" in caplog.text


def test_metrics_and_spans_reach_a_collector_and_say_that_a_run_failed() -> None:
    journal = Journal()
    with receiver() as (url, came):
        job = JOB.model_copy(update={"metrics": MetricsSettings(endpoint=url)})

        def run() -> None:
            with observed(job, "run-1", journal):
                with journal.during("encode"):
                    journal.listeners[0](snapshot(encoded=5))
                raise Permanent("the disk is full")

        with pytest.raises(Permanent):
            run()
    metrics = [ExportMetricsServiceRequest.FromString(body) for path, body in came if path == "/v1/metrics"]
    found = {metric.name: metric for request in metrics for scope in request.resource_metrics[0].scope_metrics for metric in scope.metrics}
    assert found["kitestring.run.failed"].gauge.data_points[0].as_double == 1.0
    spans = [ExportTraceServiceRequest.FromString(body) for path, body in came if path == "/v1/traces"]
    assert {span.name for request in spans for scope in request.resource_spans[0].scope_spans for span in scope.spans} == {
        "kitestring.run",
        "kitestring.encode",
    }


def test_a_collector_that_is_down_fails_no_run() -> None:
    (port,) = free_ports(1)
    job = JOB.model_copy(update={"metrics": MetricsSettings(endpoint=f"http://127.0.0.1:{port}")})
    with observed(job, "run-1", Journal()):
        pass


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "1234"}, "prometheus"),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
    ],
)
def test_the_usual_variables_ask_for_metrics(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporter: str | None) -> None:
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED", *exporters.COLLECTOR):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = metrics_settings(None)
    assert (settings.exporter if settings else None) == exporter
    assert not settings or exporter != "prometheus" or settings.port == 1234


@pytest.mark.parametrize(("of", "extra"), [(metrics_settings, "metrics"), (lineage_of, "lineage")])
def test_without_the_extra_a_job_that_asks_for_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, of: Callable[[Any], object], extra: str
) -> None:
    settings = {"metrics": MetricsSettings(), "lineage": LineageSettings(url="http://marquez:5000")}
    for module in (exporters, __import__("tasks.adapters.metrics.lineage", fromlist=["_"])):
        monkeypatch.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(BadInput, match=rf"\.\[{extra}\]"):
        of(settings[extra])
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "statsd")
    with pytest.raises(BadInput, match="statsd"):
        metrics_settings(None)


def test_gpus_are_read_from_the_management_library_and_one_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nvml:
        class NVMLError(Exception): ...

        nvmlInit = staticmethod(lambda: None)  # noqa: N815 - NVML's names
        nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
        nvmlDeviceGetName = staticmethod(lambda _device: "H100")  # noqa: N815
        nvmlDeviceGetMemoryInfo = staticmethod(lambda _device: type("M", (), {"used": 5, "total": 80}))  # noqa: N815
        nvmlDeviceGetUtilizationRates = staticmethod(lambda _device: type("U", (), {"gpu": 97}))  # noqa: N815

        @staticmethod
        def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
            if index:
                raise Nvml.NVMLError("fell off the bus")
            return index

        @staticmethod
        def nvmlDeviceGetPowerUsage(_device: int) -> int:  # noqa: N802
            raise Nvml.NVMLError("not supported")

    monkeypatch.setattr(gpu_usage.importlib, "import_module", lambda _name: Nvml)
    [gpu] = GpuMeter().look()
    assert (gpu.name, gpu.utilization, gpu.memory_bytes, gpu.watts) == ("H100", 0.97, 5, None)


def test_lineage_tells_what_went_in_what_came_out_and_why_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    with receiver() as (url, came):
        job = JOB.model_copy(update={"lineage": LineageSettings(url=url, namespace="search")})
        with observed(job, "run-1", journal := Journal()):
            journal.reused = 12

        def fail() -> None:
            with observed(job, "run-2", Journal()):
                raise Permanent("s3://me:secret@bucket is gone")

        with pytest.raises(Permanent):
            fail()
    start, complete, _, failed = [json.loads(body) for _, body in came]
    assert [each["eventType"] for each in (start, complete, failed)] == ["START", "COMPLETE", "FAIL"]
    assert start["run"]["runId"] == complete["run"]["runId"] != failed["run"]["runId"]
    assert (complete["job"]["namespace"], complete["job"]["name"]) == ("search", job.corpus)
    assert complete["inputs"][0]["name"] == dataset(job.source.uri)[1]
    assert complete["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 12
    assert failed["run"]["facets"]["errorMessage"]["message"] == "s3://bucket is gone"
    with receiver(status=500) as (url, _), caplog.at_level(logging.WARNING):
        broken = job.model_copy(update={"lineage": LineageSettings(url=url)})
        with observed(broken, "run-3", Journal()):
            pass
    assert "did not accept the event START" in caplog.text


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://lake/kites/a.jsonl", ("s3://lake", "kites/a.jsonl")),
        ("/data/kites", ("file", "/data/kites")),
        ("http://milvus:19530", ("http://milvus:19530", "/")),
        ("./kites.db", ("file", "./kites.db")),
    ],
)
def test_datasets_are_named_as_openlineage_wants_them(uri: str, named: tuple[str, str]) -> None:
    assert dataset(uri) == named
