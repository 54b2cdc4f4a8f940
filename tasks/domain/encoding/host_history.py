"""The history of a run's hosts: when each joined, left or was lost, for the report and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.work_items import HostRecord
from tasks.domain.report.hosts import PRESENT_STATES, HostMoment, HostState, HostWork

MOST_MOMENTS = 64  # newest state changes kept for each host


class HostHistory:
    """The hosts of a run by name. One thread writes, any thread may read.

    Args:
        clock: monotonic seconds; times are relative to the construction.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        began = clock()
        self._clock: Callable[[], float] = lambda: clock() - began
        self._moments: dict[str, tuple[HostMoment, ...]] = {}
        self._present: dict[str, float] = {}  # seconds in which a host could encode, up to its newest moment

    def note(self, host: str, state: HostState, why: str = "") -> None:
        """Record a host's new state. A host that is left out stays so; an empty name, of a host not known yet, is ignored."""
        known = self._moments.get(host, ())
        if not host or (known and known[-1].state in (state, "left out")):
            return
        now = self._clock()
        self._present[host] = self._present.get(host, 0.0) + _since(known, now)
        self._moments[host] = (*known, HostMoment(seconds=round(now, 3), state=state, why=why))[-MOST_MOMENTS:]

    def hosts(self, progress: Iterable[tuple[str, EncodingProgress]], records: Mapping[str, HostRecord]) -> tuple[HostWork, ...]:
        """Return the work of each host, in the order in which they joined."""
        done, now, moments = dict(progress), self._clock(), dict(self._moments)
        return tuple(
            _work(name, known, done.get(name) or EncodingProgress(), records.get(name) or HostRecord()).model_copy(
                update={"seconds": round(self._present.get(name, 0.0) + _since(known, now), 3)}
            )
            for name, known in moments.items()
        )


def _since(moments: tuple[HostMoment, ...], now: float) -> float:
    return max(0.0, now - moments[-1].seconds) if moments and moments[-1].state in PRESENT_STATES else 0.0


def _work(name: str, moments: tuple[HostMoment, ...], progress: EncodingProgress, record: HostRecord) -> HostWork:
    return HostWork(
        host=name,
        ranks=len(progress.rows_by_rank),
        rows=progress.rows,
        tokens=progress.tokens,
        encode_seconds=sum(work.encode_seconds for work in progress.work),
        taken=record.taken,
        given_back=record.given_back,
        doubled=record.doubled,
        loaded=record.loaded,
        left_out=record.left_out,
        moments=moments,
    )
