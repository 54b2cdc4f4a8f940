"""Walking folders in the order in which S3 sorts keys: the same corpus is listed alike wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks.adapters.files.globs import Pattern
from tasks.adapters.files.left_out import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a folder's listing."""

    name: str  # without its folder
    path: str  # what the drive opens or lists
    folder: bool


Lister = Callable[[str], list[Entry]]


def walk(root: str, pattern: Pattern, entries: Lister, left_out: LeftOut) -> Iterator[tuple[str, Entry]]:
    """Wanted files below a root, as (name below the root, entry); holds one listing for each level."""
    return _walk(root, "", pattern, entries, left_out)


def _walk(folder: str, above: str, pattern: Pattern, entries: Lister, left_out: LeftOut) -> Iterator[tuple[str, Entry]]:
    # A folder sorts as its name with the slash, as a key prefix would: "a-b" comes before "a/b".
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
