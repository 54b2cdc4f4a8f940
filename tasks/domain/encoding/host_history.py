"""When each host of a run was there: written down as it happens, read for the report and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.work_items import HostRecord
from tasks.domain.report.hosts import THERE, HostMoment, HostState, HostWork

MOST_MOMENTS = 64  # of a host that are kept, the newest


class HostHistory:
    """The hosts of a run by name. One thread writes, any may read.

    Args:
        clock: seconds, monotonic; they are counted from now on.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        began = clock()
        self._clock: Callable[[], float] = lambda: clock() - began
        self._moments: dict[str, tuple[HostMoment, ...]] = {}
        self._there: dict[str, float] = {}  # seconds in which a host could encode, up to its newest moment

    def note(self, host: str, state: HostState, why: str = "") -> None:
        """A host's state from now on; one that is left out stays it, and one without a name is not known yet."""
        known = self._moments.get(host, ())
        if not host or (known and known[-1].state in (state, "left out")):
            return
        now = self._clock()
        self._there[host] = self._there.get(host, 0.0) + _since(known, now)
        self._moments[host] = (*known, HostMoment(seconds=round(now, 3), state=state, why=why))[-MOST_MOMENTS:]

    def hosts(self, progress: Iterable[tuple[str, EncodingProgress]], records: Mapping[str, HostRecord]) -> tuple[HostWork, ...]:
        """What each has done, in the order in which they came."""
        done, now, moments = dict(progress), self._clock(), dict(self._moments)
        return tuple(
            _work(name, known, done.get(name) or EncodingProgress(), records.get(name) or HostRecord()).model_copy(
                update={"seconds": round(self._there.get(name, 0.0) + _since(known, now), 3)}
            )
            for name, known in moments.items()
        )


def _since(moments: tuple[HostMoment, ...], now: float) -> float:
    return max(0.0, now - moments[-1].seconds) if moments and moments[-1].state in THERE else 0.0


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
