"""The shards of a checkpoint by one listing, without reading any of them; a million shards take 16 MB."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.ports import StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The shards that are sealed, those of them that were amended since, and a mark that changes whenever a seal or an amendment does."""

    sealed: DigestSet
    amended: frozenset[str]
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpToDate(Container[str]):
    """Shards that are sealed and loaded as they are sealed now."""

    sealed: DigestSet
    loaded: DigestSet
    stale: frozenset[str]

    def __contains__(self, shard: object) -> bool:
        return shard in self.loaded and shard in self.sealed and shard not in self.stale


def survey_listing(listing: Iterable[StoredObject], folder: str) -> Survey:
    """Take in everything below the folder of the shards, in any order."""
    amended, mark = set[str](), 0

    def sealed() -> Iterator[str]:
        nonlocal mark
        for found in listing:
            shard, _, name = found.key.removeprefix(folder).partition("/")
            if name == "seal.json":
                yield shard
            elif name.startswith("amend-"):
                amended.add(shard)
            else:
                continue
            mark ^= int(hashlib.sha256(f"{found.key} {found.size} {found.modified}".encode()).hexdigest()[:32], 16)

    ids = DigestSet(sealed())
    return Survey(sealed=ids, amended=frozenset(amended), mark=f"{mark:032x}")
