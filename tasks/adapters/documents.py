"""Values as JSON objects in a store: typed going in and coming out."""

from __future__ import annotations

import json
from typing import TypeVar, get_args

from pydantic import ValidationError

from tasks.domain.errors import OutcomeUnknown, Permanent, Transient
from tasks.domain.ports import Store
from tasks.domain.strict import Strict

V = TypeVar("V", bound=Strict)


def read_document(store: Store, key: str, kind: type[V]) -> V | None:
    """The value under a key, or None.

    Raises:
        Permanent: damaged, or written by another version; names the key.
    """
    data = store.read(key)
    return None if data is None else _parse(data, f"{store.url}/{key}", kind)


def write_document(store: Store, key: str, value: Strict) -> None:
    """Put a value; replaces one that is there."""
    store.write(key, _bytes(value))


def commit_document(store: Store, key: str, value: V) -> V:
    """Put a value if there is none; the value that stands there now, ours or the winner's. May be called again.

    Raises:
        Transient: nobody can say which stands there; calling again finds out.
        Permanent: what stands there cannot be read.
    """
    try:
        if store.commit(key, _bytes(value)):
            return value
    except OutcomeUnknown as error:
        raise Transient(str(error)) from error
    winner = read_document(store, key, type(value))
    if winner is None:
        raise Transient(f"{store.url}/{key}: was there, and was removed in the same moment")
    return winner


def _bytes(value: Strict) -> bytes:
    return value.model_dump_json().encode()


def _parse(data: bytes, where: str, kind: type[V]) -> V:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise Permanent(f"{where}: damaged: not JSON") from error
    version, reads = _version(document), _formats(kind)
    if version not in reads:
        raise Permanent(
            f"{where}: written in format {version!r}, this version of Kitestring reads {max(reads)}: use the version that wrote it"
        )
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise Permanent(f"{where}: damaged: {field}: {first['msg']}") from error


def _formats(kind: type[Strict]) -> tuple[int, ...]:
    """The format versions that a kind of document is read in, as its own field says."""
    field = kind.model_fields.get("format_version")
    return (get_args(field.annotation) if field else ()) or (1,)


def _version(document: object) -> object:
    """A document's own format version, or that of the identity inside it; a missing one is told by the fields."""
    if not isinstance(document, dict):
        return 1
    inner = document.get("identity")
    return document.get("format_version", inner.get("format_version", 1) if isinstance(inner, dict) else 1)
