"""Counts, by reason, the files that a listing finds and a source does not read, so that no file is skipped silently."""

from __future__ import annotations

import posixpath
import threading
from collections import Counter

from tasks.domain.shards.unread_files import UnreadFiles

HIDDEN = "hidden (its name begins with '.' or '_')"
NO_SUFFIX = "without a suffix (name such files in a glob to read them, for example part-*)"
EMPTY = "empty"
OWN = "of the job's checkpoint or Milvus Lite file"
MOST_REASONS = 20
LONGEST_SUFFIX = 12  # characters; a longer one is part of a name with a dot


class LeftOut:
    """Skipped files of one listing."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._last = ""
        self._lock = threading.Lock()

    def add(self, reason: str, name: str) -> None:
        """Count a file, or a folder that is not entered; consecutive files of the same folder count once."""
        with self._lock:
            if name == self._last and name.endswith("/"):
                return
            self._last = name
            if reason not in self._counts and len(self._counts) >= MOST_REASONS:
                reason = "of other kinds"
            self._counts[reason] += 1
            self._examples.setdefault(reason, name)

    def files(self) -> tuple[UnreadFiles, ...]:
        """Return the counts so far, largest first."""
        return tuple(
            UnreadFiles(reason=reason, files=files, example=self._examples[reason]) for reason, files in self._counts.most_common()
        )


def other_suffix(name: str) -> str:
    """Return the reason for a file whose suffix the source does not read."""
    suffix = posixpath.splitext(name)[1].lower()
    return f"with the suffix {suffix}" if 1 < len(suffix) <= LONGEST_SUFFIX and suffix.isprintable() else NO_SUFFIX
