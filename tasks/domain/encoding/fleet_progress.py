"""Merge the progress of several hosts into one value: their ranks one after another, each with its host's name."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.report.figures import RankWork

COUNTS = ("parts", "rows", "tokens", "bytes", "padded", "tokenize_seconds", "encode_seconds", "write_seconds")


def finished(progress: EncodingProgress) -> EncodingProgress:
    """Return the lasting progress of a host that left: only what it has stored."""
    rows = {work.rank: work.rows for work in progress.work}
    return progress.model_copy(
        update={
            "rows": sum(rows.values()),
            "tokens": sum(work.tokens for work in progress.work),
            "rows_by_rank": tuple(rows.get(rank, 0) for rank in range(max(rows, default=-1) + 1)),
            "under_way": (),
            "waits_for": "",
        }
    )


def added(before: EncodingProgress, now: EncodingProgress) -> EncodingProgress:
    """Add the progress of an earlier process of a host (`before`) to that of its current one."""
    ranks = max(len(before.rows_by_rank), len(now.rows_by_rank))
    rows = [(*each.rows_by_rank, *[0] * (ranks - len(each.rows_by_rank))) for each in (before, now)]
    works = {work.rank: work for work in before.work}
    for work in now.work:
        works[work.rank] = _sum(works[work.rank], work) if work.rank in works else work
    return now.model_copy(
        update={
            "rows": before.rows + now.rows,
            "tokens": before.tokens + now.tokens,
            "seconds": before.seconds + now.seconds,
            "rows_by_rank": tuple(map(sum, zip(*rows, strict=True))),
            "work": tuple(works[rank] for rank in sorted(works)),
            "newest": {**before.newest, **now.newest},
            "memory": {name: max(each.memory.get(name, 0) for each in (before, now)) for name in {**before.memory, **now.memory}},
            "startup": now.startup or before.startup,
        }
    )


def merged(hosts: Iterable[tuple[str, EncodingProgress]]) -> EncodingProgress:
    """Merge the progress of all hosts by name. Ranks keep their host's numbers; `rows_by_rank` lists one host after another."""
    by_name: dict[str, EncodingProgress] = {}
    for name, progress in hosts:
        by_name[name] = added(by_name[name], progress) if name in by_name else progress
    total = EncodingProgress()
    for name, progress in by_name.items():
        total = _add_host(total, name, progress)
    return total


def _add_host(total: EncodingProgress, name: str, host: EncodingProgress) -> EncodingProgress:
    return total.model_copy(
        update={
            "rows": total.rows + host.rows,
            "tokens": total.tokens + host.tokens,
            "seconds": max(total.seconds, host.seconds),
            "rows_by_rank": total.rows_by_rank + host.rows_by_rank,
            "work": (*total.work, *(work.model_copy(update={"host": name}) for work in host.work)),
            "newest": {**total.newest, **{f"{name}, {rank}": shard for rank, shard in host.newest.items()}},
            "under_way": (*total.under_way, *(at.model_copy(update={"host": name}) for at in host.under_way)),
            "memory": {**total.memory, **{f"{name}, {what}": size for what, size in host.memory.items()}},
            "startup": {**host.startup, **{what: max(seconds, host.startup.get(what, 0.0)) for what, seconds in total.startup.items()}},
            "waits_for": total.waits_for or (host.waits_for and f"{host.waits_for} on host {name}"),
        }
    )


def _sum(one: RankWork, other: RankWork) -> RankWork:
    return one.model_copy(update={name: getattr(one, name) + getattr(other, name) for name in COUNTS})
