"""What temporary files are made, and whether the next run sweeps them."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.adapters.processes.scratch import PREFIX

_watchers: list[set[Path]] = []
sys.addaudithook(lambda event, given: [made.add(Path(str(given[0]))) for made in _watchers] if event.startswith("tempfile.mk") else None)


@contextmanager
def swept_files() -> Iterator[set[str]]:
    """What kinds of temporary files are made within, below a folder that the next run sweeps; one beside it fails."""
    made, kinds, usual = set[Path](), set[str](), Path(tempfile.gettempdir())
    _watchers.append(made)
    try:
        yield kinds
    finally:
        _watchers.remove(made)
    for path in made:
        below = path.relative_to(usual).parts if path.is_relative_to(usual) else ()
        assert len(below) != 1 or re.fullmatch(rf"{PREFIX}\w{{8}}", below[0]), f"{path} has no lock, and is never swept"
        kinds.add(path.name.partition("-")[0])
