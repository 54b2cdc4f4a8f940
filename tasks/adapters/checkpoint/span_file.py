"""Spans on disk: a plan of a million shards takes no memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.digest import digest
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.shard import Shard, Span, name_shard
from tasks.domain.shards.unread_files import UnreadFiles


class Spool:
    """What planning cut, in source order; iterate as often as needed.

    Spans are cut before the encoder is known (it may still be loading); ids are given on the way out.
    """

    def __init__(self, path: Path, spans: Iterable[Span], *, rows_as: dict[str, object], scratch: Path | None = None) -> None:
        self._path, self._rows_as = path, rows_as
        self.scratch = scratch  # for what else is kept of the plan; None: nothing is
        self.shards, self.rows, self.rows_known = 0, 0, True
        self.unread: tuple[UnreadFiles, ...] = ()  # what else the source holds
        self.found: tuple[Finding, ...] = ()  # what was seen of the beginnings of its files
        self.roots: set[str] = set()  # what the files' names are below
        files, last = sha256(), None
        with path.open("w") as spool:
            for span in spans:
                if span.files != last:
                    files.update(
                        "".join(f"{file.name}\0{file.size}\0{file.version}\n" for file in span.files).encode(errors="surrogateescape")
                    )
                    last = span.files
                spool.write(span.model_dump_json() + "\n")
                self.shards += 1
                self.rows += span.rows or 0
                self.rows_known &= span.rows is not None
                self.roots.add(span.files[0].root)
        self.digest = files.hexdigest()[:32]  # of the files that have rows

    def places(self) -> DigestSet:
        """The files that stand in the source and have shards of their own, as digests of where they stand."""
        with self._path.open() as spool:
            spans = (Span.model_validate_json(line) for line in spool)
            return DigestSet(digest(span.files[0].path) for span in spans if len(span.files) == 1)

    @classmethod
    def empty(cls) -> Spool:
        """An empty plan, for commands without a source."""
        return cls(Path(os.devnull), (), rows_as={})

    def named(self, fingerprint: str) -> Iterator[Shard]:
        """Every shard, with its id under this encoder."""
        with self._path.open() as spool:
            for line in spool:
                yield name_shard(Span.model_validate_json(line), rows_as=self._rows_as, fingerprint=fingerprint)
