"""Whether a mirror may remove what it is about to remove: a source that lost much was more often lost than emptied."""

from __future__ import annotations

from tasks.domain.job.target import TargetSettings


def why_not_to_shrink(target: TargetSettings, *, leaving: int, staying: int) -> str | None:
    """Why rows must not be removed, in one line that names the cure; None where they may.

    Args:
        target: says which share may leave.
        leaving: rows that would be removed; rows that a newer shard has taken over are not among them.
        staying: rows of the source that are in the collection.
    """
    if not leaving:
        return None
    if not staying:
        return f"the source holds no row that could be loaded, the collection {leaving:,}: nothing was removed; correct source.uri, or drop the collection"
    share = leaving / (leaving + staying)
    if target.allow_shrink or share <= target.max_shrink:
        return None
    return (
        f"{leaving:,} of the collection's {leaving + staying:,} rows ({share:.0%}) are gone from the source, more than "
        f"target.max_shrink allows ({target.max_shrink:.0%}): nothing was removed; correct source.uri, or set target.allow_shrink: true"
    )
