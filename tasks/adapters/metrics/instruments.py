"""A run's measurements as OpenTelemetry instruments. Exports and scrapes read them from the run's newest snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tasks.adapters.backoff import RETRIES
from tasks.adapters.processes.gpu_usage import GpuMeter, GpuUsage
from tasks.domain.progress.snapshot import Snapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

Values = Iterator[tuple[float, Mapping[str, str]]]  # figures, each with its labels besides the corpus
MOST_SERIES = 1_000  # of ranks, and of hosts


class RunInstruments:
    """Listens to a run's snapshots. `meter`: from the exporting provider; `labels`: added to every figure."""

    def __init__(self, meter: Meter, labels: Mapping[str, str]) -> None:
        self._labels, self._now, self._failed, self._gpus = dict(labels), None, False, GpuMeter()
        self._seen: tuple[GpuUsage, ...] = ()
        counters = {
            "kitestring.rows": ("{row}", "Rows by outcome.", _rows),
            "kitestring.tokens": ("{token}", "Tokens encoded, without padding.", lambda now: _one(now.tokens)),
            "kitestring.bytes": ("By", "Bytes of parts that ranks wrote to the checkpoint.", lambda now: _one(now.bytes)),
            "kitestring.stage.duration": ("s", "Seconds in which a stage was active.", _stages),
            "kitestring.rank.rows": ("{row}", "Rows that a rank has written.", _ranks),
            "kitestring.host.rows": ("{row}", "Rows that a host of a cluster has encoded.", _hosts),
            "kitestring.retries": ("{retry}", "Calls that were retried, by called service.", _retries),
        }
        gauges = {
            "kitestring.shards": ("{shard}", "Shards by state.", _shards),
            "kitestring.rows.expected": (
                "{row}",
                "Rows that the run has to process; an estimate if the files have no row counts.",
                _expected,
            ),
            "kitestring.queue.shards": ("{shard}", "Sealed shards that are not loaded yet.", _queue),
            "kitestring.run.duration": ("s", "Seconds since the run began.", lambda now: _one(now.seconds)),
            "kitestring.run.failed": ("", "1: the run has failed.", lambda _now: _one(float(self._failed))),
            "kitestring.gpu.utilization": ("", "Share of the time in which a kernel ran.", lambda _now: self._of_gpus("utilization")),
            "kitestring.gpu.memory": ("By", "Memory of a GPU in use.", lambda _now: self._of_gpus("memory_bytes")),
            "kitestring.gpu.power": ("W", "Power that a GPU draws.", lambda _now: self._of_gpus("watts")),
        }
        for name, (unit, description, values) in counters.items():
            meter.create_observable_counter(name, [self._callback(values)], unit=unit, description=description)
        for name, (unit, description, values) in gauges.items():
            meter.create_observable_gauge(name, [self._callback(values)], unit=unit, description=description)

    _now: Snapshot | None

    def __call__(self, now: Snapshot) -> None:
        self._now = now
        self._seen = self._gpus.look()

    def fail(self) -> None:
        """Record that the run has failed."""
        self._failed = True

    def _callback(self, values: Callable[[Snapshot], Values]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - optional dependency

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            now = self._now
            return [Observation(value, {**self._labels, **labels}) for value, labels in values(now)] if now else []

        return observe

    def _of_gpus(self, figure: str) -> Values:
        for gpu in self._seen:
            value = getattr(gpu, figure)
            if value is not None:
                yield value, {"gpu": str(gpu.index), "model": gpu.name}


def _one(value: float) -> Values:
    yield value, {}


def _rows(now: Snapshot) -> Values:
    fates = {
        "encoded": now.encoded,
        "reused": now.reused - now.cached,
        "cached": now.cached,
        "quarantined": now.quarantined,
        "duplicate": now.duplicates,
        "loaded": now.loaded,
        "removed": now.removed,
    }
    yield from ((rows, {"fate": fate}) for fate, rows in fates.items())


def _stages(now: Snapshot) -> Values:
    yield from ((seconds, {"stage": stage}) for stage, seconds in now.stages.items())
    if now.encoding.startup:
        yield sum(now.encoding.startup.values()), {"stage": "start-up"}


def _ranks(now: Snapshot) -> Values:
    for work in now.encoding.work[:MOST_SERIES]:
        yield work.rows, {"rank": str(work.rank), "host": work.host}


def _hosts(now: Snapshot) -> Values:
    for host in now.encoding.hosts[:MOST_SERIES]:
        yield host.rows, {"host": host.host}


def _retries(_now: Snapshot) -> Values:
    yield from ((count, {"what": what}) for what, count in RETRIES.counts().items())


def _shards(now: Snapshot) -> Values:
    states = {"planned": now.shards, "sealed": now.shards_sealed, "loaded": now.shards_loaded, "failed": now.shards_failed}
    yield from ((shards, {"state": state}) for state, shards in states.items())


def _expected(now: Snapshot) -> Values:
    if now.goal is not None:
        yield now.goal, {}


def _queue(now: Snapshot) -> Values:
    yield max(0, now.shards_sealed - now.shards_loaded), {}
