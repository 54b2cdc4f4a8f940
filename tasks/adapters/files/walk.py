"""Walks folders in S3's key order, so that a corpus is listed in the same order in any location."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks.adapters.files.globs import Pattern
from tasks.adapters.files.left_out import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a folder's listing."""

    name: str  # without its folder
    path: str  # for the drive to open or list
    folder: bool


Lister = Callable[[str], list[Entry]]


def walk(root: str, pattern: Pattern, entries: Lister, left_out: LeftOut) -> Iterator[tuple[str, Entry]]:
    """Yield the wanted files below a root as (name relative to the root, entry); holds one listing per level."""
    return _walk(root, "", pattern, entries, left_out)


def _walk(folder: str, above: str, pattern: Pattern, entries: Lister, left_out: LeftOut) -> Iterator[tuple[str, Entry]]:
    # A folder sorts by its name with a slash, like a key prefix: "a-b" comes before "a/b".
    for entry in sorted(entries(folder), key=lambda e: e.name + "/" * e.folder):
        name = above + entry.name
        if not entry.folder:
            if pattern.takes_file(name):
                yield name, entry
            else:
                pattern.note_left_out(name, left_out)
        elif pattern.enters(name):
            yield from _walk(entry.path, f"{name}/", pattern, entries, left_out)
        else:
            pattern.note_left_out(f"{name}/", left_out)
