"""The limit of a mirror's deletions: a source that lost many rows is more often misconfigured or unavailable than emptied."""

from __future__ import annotations

from tasks.domain.job.target import TargetSettings


def why_not_to_shrink(target: TargetSettings, *, leaving: int, staying: int) -> str | None:
    """Return why rows must not be removed, in one line that says what to do; None if they may.

    Args:
        target: has the largest share that may be removed.
        leaving: rows that would be removed, without those that a newer shard has taken over.
        staying: rows of the source that are in the collection.
    """
    if not leaving:
        return None
    if not staying:
        cure = "correct source.uri, or drop the collection"
        return f"the source has no loadable row, but the collection has {leaving:,}: nothing was removed; {cure}"
    share = leaving / (leaving + staying)
    if target.allow_shrink or share <= target.max_shrink:
        return None
    return (
        f"{leaving:,} of the collection's {leaving + staying:,} rows ({share:.0%}) are gone from the source, more than "
        f"target.max_shrink allows ({target.max_shrink:.0%}): nothing was removed; correct source.uri, or set target.allow_shrink: true"
    )
