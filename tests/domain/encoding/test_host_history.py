"""When each host of a run was there, and what it is told to have done."""

from __future__ import annotations

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.fleet_progress import merged
from tasks.domain.encoding.host_history import MOST_MOMENTS, HostHistory
from tasks.domain.encoding.work_items import HostRecord
from tasks.domain.report.figures import RankWork


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_host_is_at_work_from_when_it_has_loaded_until_it_is_lost() -> None:
    clock = Clock()
    history = HostHistory(clock)
    for clock.now, state in ((1, "loading"), (5, "at work"), (7, "at work"), (15, "lost"), (20, "loading"), (30, "at work")):
        history.note("a", state)  # type: ignore[arg-type]
    clock.now = 40
    work = RankWork(rank=0, rows=200, encode_seconds=5)
    progress = EncodingProgress(rows=200, rows_by_rank=(200,), work=(work,))
    (host,) = history.hosts([("a", progress)], {"a": HostRecord(taken=3, given_back=1)})
    assert [moment.state for moment in host.moments] == ["loading", "at work", "lost", "loading", "at work"]
    assert host.seconds == 20
    assert (host.rows_per_second, host.share_at_work, host.taken, host.given_back) == (10, 0.25, 3, 1)


def test_one_that_is_left_out_stays_it_and_one_without_a_name_is_not_told_of() -> None:
    history = HostHistory(Clock())
    history.note("a", "left out", "other code")
    history.note("a", "lost")
    history.note("", "lost")
    (host,) = history.hosts([], {"a": HostRecord(left_out="other code")})
    assert [(moment.state, moment.why) for moment in host.moments] == [("left out", "other code")]
    assert host.share_at_work == 0


def test_a_host_that_comes_and_goes_for_days_takes_no_more_memory() -> None:
    history = HostHistory(Clock())
    for _ in range(MOST_MOMENTS):
        history.note("a", "at work")
        history.note("a", "lost")
    (host,) = history.hosts([], {})
    assert len(host.moments) == MOST_MOMENTS


def test_ranks_keep_the_numbers_that_they_have_on_their_host() -> None:
    def progress(ranks: int) -> EncodingProgress:
        return EncodingProgress(
            rows_by_rank=(1,) * ranks, work=tuple(RankWork(rank=rank) for rank in range(ranks)), newest={"rank 0": "a.parquet"}
        )

    for ranks in (1, 2):  # of the first host, whose second rank comes later
        both = merged([("a", progress(ranks)), ("b", progress(1))])
        assert [(work.host, work.rank) for work in both.work][-1] == ("b", 0)
        assert both.newest == {"a, rank 0": "a.parquet", "b, rank 0": "a.parquet"}
