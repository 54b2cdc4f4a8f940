"""The log of Spark's streaming file sink: what a folder holds of its output beside the committed files is of tasks that failed."""

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
    """Names of the committed files of a folder, without the folders of partitions; None: it is no streaming sink's.

    Raises:
        BadInput: the log cannot be read.
    """
    root, pattern = root_of(uri), split_pattern(uri)[1]
    if uri.startswith(("http:", "https:")) or (not pattern and posixpath.basename(root) != posixpath.basename(uri.rstrip("/"))):
        return None  # one file, whatever a log says of it
    try:
        batches = {file.name: file.path for file in list_files(f"{root}/{LOG}", ("",)) if file.name.removesuffix(COMPACT).isdecimal()}
    except BadInput:  # there is none
        return None
    return _replayed(batches) if batches else None


def _replayed(batches: dict[str, str]) -> frozenset[str]:
    """What the newest batch that holds all before it, and those after it, come to."""
    whole = max((int(name.removesuffix(COMPACT)) for name in batches if name.endswith(COMPACT)), default=-1)
    later = sorted(int(name) for name in batches if name.isdecimal() and int(name) > whole)
    files: set[str] = set()
    for name in [*([f"{whole}{COMPACT}"] if whole >= 0 else []), *map(str, later)]:
        for action, file in _actions(batches[name]):
            (files.add if action == "add" else files.discard)(file)
    return frozenset(files)


def _actions(path: str) -> list[tuple[str, str]]:
    with open_file(path) as opened:
        version, *lines = opened.read().decode(errors="replace").splitlines() or [""]
    if version != FORMAT:
        raise BadInput(f"'{path}', which says which files Spark has committed, has the format '{version[:20]}', and only {FORMAT} is known")
    try:
        entries = [json.loads(line) for line in lines if line]
        return [(entry.get("action", "add"), posixpath.basename(unquote(entry["path"]))) for entry in entries]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"'{path}', which says which files Spark has committed, cannot be read ({error}): read another copy") from error
