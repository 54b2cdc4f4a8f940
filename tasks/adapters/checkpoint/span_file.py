"""Keeps the spans of a plan on disk, so that a million shards need no memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.digest import digest
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.shard import Shard, Span, name_shard
from tasks.domain.shards.unread_files import UnreadFiles


def follow_spans(path: Path, over: Callable[[], bool], *, pause: Callable[[], object]) -> Iterator[Span]:
    """Yield spans of a file that is still being written, until `over`; remaining spans are not yielded then.

    Args:
        path: file of a `Spool`; it may not exist yet.
        over: called before each span.
        pause: waits a moment if there is no new span yet.
    """
    while not path.exists() and not over():
        pause()
    with path.open() if path.exists() else nullcontext(io.StringIO()) as spool:
        line = ""
        while not over():
            line += spool.readline()
            if line.endswith("\n"):
                yield Span.model_validate_json(line)
                line = ""
            else:
                pause()


class Spool:
    """The spans of a plan in source order; can be iterated repeatedly.

    Spans are cut before the encoder is known (it may still be loading); shard ids are assigned on reading.
    """

    def __init__(self, path: Path, spans: Iterable[Span], *, rows_as: dict[str, object], scratch: Path | None = None) -> None:
        self._path, self._rows_as = path, rows_as
        self.scratch = scratch  # for other data of the plan; None: keep none
        self.shards, self.rows, self.rows_known = 0, 0, True
        self.unread: tuple[UnreadFiles, ...] = ()  # other files in the source
        self.found: tuple[Finding, ...] = ()  # findings about the beginnings of its files
        self.unversioned = ""  # the first file without ETag or time
        self.roots: dict[str, None] = {}  # roots of the files' names, in order
        files, last = sha256(), None
        with path.open("w", buffering=1) as spool:  # line-buffered, for `follow_spans`
            for span in spans:
                if span.files != last:
                    files.update(
                        "".join(f"{file.name}\0{file.size}\0{file.version}\n" for file in span.files).encode(errors="surrogateescape")
                    )
                    last = span.files
                    self.unversioned = self.unversioned or next((file.path for file in span.files if not file.version), "")
                spool.write(span.model_dump_json() + "\n")
                self.shards += 1
                self.rows += span.rows or 0
                self.rows_known &= span.rows is not None
                self.roots.setdefault(span.files[0].root)
        self.digest = files.hexdigest()[:32]  # of the files with rows

    def places(self) -> DigestSet:
        """Return the source's files that have their own shards, as digests of their paths."""
        return DigestSet(digest(span.files[0].path) for span in self.spans() if len(span.files) == 1)

    @classmethod
    def empty(cls) -> Spool:
        """An empty plan, for commands without a source."""
        return cls(Path(os.devnull), (), rows_as={})

    def spans(self) -> Iterator[Span]:
        """Yield every span."""
        with self._path.open() as spool:
            for line in spool:
                yield Span.model_validate_json(line)

    def named(self, fingerprint: str) -> Iterator[Shard]:
        """Yield every shard, with its id under this encoder, of any root."""
        return (name_shard(span, rows_as=self._rows_as, fingerprint=fingerprint) for span in self.spans())
