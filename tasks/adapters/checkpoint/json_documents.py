"""Stores typed values as JSON objects.

The Literal type of a kind's `format_version` lists the formats that it reads. From format 2 on a document has a checksum,
so that edits are detected. Reformatting is not an edit: the checksum covers the parsed document.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.domain.digest import digest
from tasks.domain.errors import KitestringError, Newer, OutcomeUnknown, Transient, Unreadable
from tasks.domain.ports import Store
from tasks.domain.strict import Strict

V = TypeVar("V", bound=Strict)
CHECKSUM = "checksum"
CHECKED = 2  # the first format with a checksum


def read_document(
    store: Store, key: str, kind: type[V], *, damages: Damages | None = None, check: Callable[[V], object] | None = None
) -> V | None:
    """Read the value under a key, or None.

    Args:
        store: the store.
        key: key of the document.
        kind: type of the value.
        damages: records unreadable documents, which are returned as None; without it, the error is raised.
        check: raises Permanent if the value does not belong under this key.

    Raises:
        Newer: written by a newer version; names the key.
        Unreadable: damaged; names the key.
    """
    data = store.read(key)
    if data is None:
        return None
    try:
        return _checked(data, f"{store.url}/{key}", kind, check)
    except Unreadable as error:
        if damages is None:
            raise
        if damages.take(key, data, str(error)):
            return None
    return read_document(store, key, kind, damages=damages, check=check)  # it was replaced meanwhile


def write_document(store: Store, key: str, value: Strict) -> None:
    """Write a value, replacing an existing one."""
    store.write(key, _bytes(value))


def commit_document(store: Store, key: str, value: V, *, damages: Damages | None = None, check: Callable[[V], object] | None = None) -> V:
    """Write a value unless one exists. Returns the stored value, this or the winner's. Idempotent.

    Raises:
        Transient: the outcome is unknown; call again to find out.
        Permanent: the stored document cannot be read.
    """
    for _ in range(2):  # an unreadable document is moved aside first
        try:
            if store.commit(key, _bytes(value)):
                return value
        except OutcomeUnknown as error:
            raise Transient(str(error)) from error
        winner = read_document(store, key, type(value), damages=damages, check=check)
        if winner is not None:
            return winner
    raise Transient(f"{store.url}/{key}: existed, and was removed at the same moment")


def utc_now() -> str:
    """Return the current time in the format of documents: ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _bytes(value: Strict) -> bytes:
    if getattr(value, "format_version", 1) < CHECKED:
        return value.model_dump_json().encode()
    document = json.loads(value.model_dump_json())
    return json.dumps({**document, CHECKSUM: digest(document)}, ensure_ascii=False, separators=(",", ":")).encode()


def _checked(data: bytes, where: str, kind: type[V], check: Callable[[V], object] | None) -> V:
    value = _parse(data, where, kind)
    if check:
        try:
            check(value)
        except KitestringError as error:
            raise Unreadable(f"{where}: damaged: {error}") from error
    return value


def _parse(data: bytes, where: str, kind: type[V]) -> V:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{where}: damaged: not JSON") from error
    if not isinstance(document, dict):
        raise Unreadable(f"{where}: damaged: not an object")
    if _check_version(document, where, kind) >= CHECKED:
        checksum = document.pop(CHECKSUM, None)
        if checksum != digest(document):
            raise Unreadable(f"{where}: damaged: edited since it was written: its checksum does not match")
        data = json.dumps(document).encode()
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise Unreadable(f"{where}: damaged: {field}: {first['msg']}") from error


def _check_version(document: dict[str, Any], where: str, kind: type[Strict]) -> int:
    """Return a document's format if its kind reads it. A document without a format is not Kitestring's; its fields identify it.

    Raises:
        Newer, Unreadable
    """
    field = kind.model_fields.get("format_version")
    if field is None:  # a record that contains another document
        for name, inner in kind.model_fields.items():
            wrapped, wraps = document.get(name), inner.annotation
            if isinstance(wrapped, dict) and isinstance(wraps, type) and "format_version" in getattr(wraps, "model_fields", ()):
                _check_version(wrapped, where, wraps)
        return 1
    reads = get_args(field.annotation)
    version = document.setdefault("format_version", min(reads))
    if isinstance(version, bool) or not isinstance(version, int):
        raise Unreadable(f"{where}: damaged: format_version: {version!r}")
    if version > max(reads):
        raise Newer(f"{where}: written by a newer Kitestring (format {version}; this version reads up to {max(reads)}): upgrade this one")
    if version not in reads:
        raise Unreadable(f"{where}: damaged: format_version: {version!r}")
    return version
