"""Finds the shards of a checkpoint with one listing, without reading them; a million shards need 16 MB."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.ports import StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Sealed shards, amended ones among them, and a mark that changes with any seal or amendment."""

    sealed: DigestSet
    amended: frozenset[str]
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpToDate(Container[str]):
    """Shards that are loaded in their current sealed state."""

    sealed: DigestSet
    loaded: DigestSet
    stale: frozenset[str]

    def __contains__(self, shard: object) -> bool:
        return shard in self.loaded and shard in self.sealed and shard not in self.stale


def survey_listing(listing: Iterable[StoredObject], folder: str) -> Survey:
    """Build a survey from a listing of the shards' folder, in any order."""
    amended, mark = set[str](), 0

    def sealed() -> Iterator[str]:
        nonlocal mark
        for stored in listing:
            shard, _, name = stored.key.removeprefix(folder).partition("/")
            if name == "seal.json":
                yield shard
            elif name.startswith("amend-"):
                amended.add(shard)
            else:
                continue
            mark ^= int(hashlib.sha256(f"{stored.key} {stored.size} {stored.modified}".encode()).hexdigest()[:32], 16)

    ids = DigestSet(sealed())
    return Survey(sealed=ids, amended=frozenset(amended), mark=f"{mark:032x}")
