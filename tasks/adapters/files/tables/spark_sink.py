"""Reads the log of Spark's streaming file sink: output files that are not in the log belong to failed tasks."""

from __future__ import annotations

import json
import posixpath
from urllib.parse import unquote

from tasks.adapters.files.access import list_files, open_file, root_of
from tasks.adapters.files.globs import split_pattern
from tasks.domain.errors import BadInput

LOG = "_spark_metadata"
NOT_COMMITTED = f"not committed by Spark (not in {LOG})"
FORMAT = "v1"
COMPACT = ".compact"


def committed_files(uri: str) -> frozenset[str] | None:
    """Return the names of a folder's committed files, without partition folders; None if it is not a streaming sink.

    Raises:
        BadInput: the log cannot be read.
    """
    root, pattern = root_of(uri), split_pattern(uri)[1]
    if uri.startswith(("http:", "https:")) or (not pattern and posixpath.basename(root) != posixpath.basename(uri.rstrip("/"))):
        return None  # a single file is read regardless of a log
    try:
        batches = {file.name: file.path for file in list_files(f"{root}/{LOG}", ("",)) if file.name.removesuffix(COMPACT).isdecimal()}
    except BadInput:  # no log
        return None
    return _replay(batches) if batches else None


def _replay(batches: dict[str, str]) -> frozenset[str]:
    """Replay the newest compacted batch and those after it."""
    compacted = max((int(name.removesuffix(COMPACT)) for name in batches if name.endswith(COMPACT)), default=-1)
    later = sorted(int(name) for name in batches if name.isdecimal() and int(name) > compacted)
    files: set[str] = set()
    for name in [*([f"{compacted}{COMPACT}"] if compacted >= 0 else []), *map(str, later)]:
        for action, file in _actions(batches[name]):
            (files.add if action == "add" else files.discard)(file)
    return frozenset(files)


def _actions(path: str) -> list[tuple[str, str]]:
    with open_file(path) as opened:
        version, *lines = opened.read().decode(errors="replace").splitlines() or [""]
    if version != FORMAT:
        raise BadInput(f"'{path}', the log of files that Spark committed, has the format '{version[:20]}'; only {FORMAT} is supported")
    try:
        entries = [json.loads(line) for line in lines if line]
        return [(entry.get("action", "add"), posixpath.basename(unquote(entry["path"]))) for entry in entries]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"'{path}', the log of files that Spark committed, cannot be read ({error}): read another copy") from error
