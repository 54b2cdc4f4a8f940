"""Amendments: the results of retries of a sealed shard's quarantined rows.

A seal never changes. Each retry adds one amendment, numbered from 1; the effective seal is the seal with all
amendments applied in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from tasks.domain.errors import Permanent
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import ChunkCounts, Part, Quarantined, Seal
from tasks.domain.strict import Strict


class Amendment(Strict):
    """The outcome of a retry: each quarantined row is in one of the three lists. Stored like a seal."""

    format_version: Literal[1, 2] = 2
    shard: str
    number: int = Field(ge=1)
    run: str
    parts: tuple[Part, ...] = Field(description="They hold exactly the recovered rows.")
    recovered: tuple[int, ...] = Field(description="Source rows that now have a vector.")
    duplicates: tuple[int, ...] = Field((), description="Source rows that can now be read and have another row's key.")
    quarantined: tuple[Quarantined, ...] = Field(description="Rows that still fail, and why.")
    seconds: float
    amended_at: str = Field(description="UTC, ISO 8601.")


def amended(seal: Seal, amendments: Iterable[Amendment]) -> Seal:
    """Return the effective seal: parts, counts and quarantine after all amendments, in order.

    Raises:
        Permanent: an amendment is not the next one of this shard, covers a row that was not in quarantine,
            omits one, or its parts do not hold exactly the recovered rows.
    """
    for number, amendment in enumerate(amendments, 1):
        seal = amended_once(seal, amendment, number)
    return seal


def amended_once(seal: Seal, amendment: Amendment, number: int) -> Seal:
    """Return the effective seal after one more amendment, which must have this number.

    Raises:
        Permanent: as `amended`.
    """
    _check(seal, amendment, number)
    parts = tuple(part.model_copy(update={"amendment": number}) for part in amendment.parts)
    chunks = seal.chunks and seal.chunks + ChunkCounts(rows=sum(part.rows for part in parts))
    effective = seal.model_copy(
        update={
            "parts": (*seal.parts, *parts),
            "embedded": seal.embedded + len(amendment.recovered),
            "duplicates": seal.duplicates + len(amendment.duplicates),
            "quarantined": amendment.quarantined,
            "chunks": chunks,
        }
    )
    check_accounts(effective)
    return effective


def _check(seal: Seal, amendment: Amendment, number: int) -> None:
    where = f"shard {seal.name} ({seal.shard}), amendment {amendment.number}"
    if amendment.shard != seal.shard or amendment.number != number:
        raise Permanent(f"{where}: belongs to shard {amendment.shard}; expected amendment {number} of this shard")
    before = sorted(row.row for row in seal.quarantined)
    after = sorted([*amendment.recovered, *amendment.duplicates, *(row.row for row in amendment.quarantined)])
    if before != after:
        raise Permanent(f"{where}: covers rows {_some(after)}, but {_some(before)} were in quarantine")
    for part in amendment.parts:
        recovered = sum(part.first <= row < part.stop for row in amendment.recovered)
        if part.source_rows != recovered:
            raise Permanent(f"{where}: {part.source_rows} rows in {part.key}, but {recovered} were recovered")


def _some(rows: list[int]) -> str:
    return f"{', '.join(map(str, rows[:10]))}{', ...' if len(rows) > 10 else ''}" or "none"
