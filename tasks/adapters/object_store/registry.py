"""Opens the store of a URL and checks that it can hold a checkpoint."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.adapters.object_store.s3_client import connect
from tasks.adapters.object_store.s3_store import S3Store
from tasks.domain.errors import BadInput, KitestringError, Permanent
from tasks.domain.ports import Store

PROBE_PREFIX = ".kitestring/"  # prefix of the objects of `probe_store` and `store_clock`
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_store(url: str, *, proven: bool = False) -> Store:
    """Open a checkpoint store without contacting it yet.

    Args:
        url: a folder's path, file:///path, s3://bucket/prefix, or memory://name (tests; gone with the process).
        proven: the parent process has already used the store, so no answer is a transient
            fault; for ranks. Otherwise no answer from the first call on means a wrong address.

    Raises:
        BadInput: unknown kind of store, or an invalid bucket name.
    """
    kind, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(_non_empty(url)))
    if kind == "file":
        return FolderStore(Path(_file_path(url)))
    if kind == "s3":
        return _open_s3(rest, proven=proven)
    if kind == "memory":
        return MemoryStore(_non_empty(rest))
    raise BadInput(f"checkpoint '{kind}://…': use a folder or s3://bucket/prefix")


def probe_store(store: Store) -> None:
    """Test the operations that a run needs on one small object and remove it; called once at the start of a run.

    Raises:
        BadInput: the store cannot be written, read, listed or cleaned, or it lets a second commit replace
            the first, so that two runs could both seal a shard.
    """
    key = f"{PROBE_PREFIX}probe-{uuid.uuid4().hex}"
    try:
        new = store.commit(key, b"first")
    except BadInput:
        raise
    except Permanent as error:
        raise BadInput(f"checkpoint {store.url} cannot be written: {error}: correct `checkpoint`") from error
    if not new:
        raise BadInput(f"checkpoint {store.url}: refuses a new object as already existing: use another store")
    try:
        _check_commit(store, key)
    except KitestringError:
        with suppress(KitestringError):  # the first error matters
            store.delete(key)
        raise
    store.delete(key)


def store_clock(store: Store) -> float:
    """Return the time of the store's clock in seconds since 1970, from a small object that is written and removed."""
    key = f"{PROBE_PREFIX}clock-{uuid.uuid4().hex}"
    store.write(key, b"now")
    try:
        return next(stored.modified for stored in store.list(key))
    finally:
        store.delete(key)


def _check_commit(store: Store, key: str) -> None:
    if store.commit(key, b"second") or store.read(key) != b"first":
        raise BadInput(
            f"checkpoint {store.url}: a conditional put (If-None-Match: *) replaced an existing object, "
            "so two runs could both seal a shard: use a store that refuses it"
        )
    store.write(key, b"third")
    if store.read(key) != b"third" or [stored.key for stored in store.list(key)] != [key]:
        raise BadInput(f"checkpoint {store.url}: does not return an object just written: use a store with read-after-write consistency")


def _non_empty(name: str) -> str:
    if not name:
        raise BadInput("checkpoint is empty: give a folder or s3://bucket/prefix")
    return name


def _file_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise BadInput(f"checkpoint '{url}': a file URL has three slashes: file:///folder")
    return unquote(parts.path)


def _open_s3(location: str, *, proven: bool) -> S3Store:
    bucket, _, prefix = location.partition("/")
    if not _BUCKET.fullmatch(bucket):  # not quoted in the message: it may be key:secret@bucket
        raise BadInput(
            "checkpoint: the text after s3:// is not a bucket's name: write s3://bucket/prefix, and put credentials in AWS_* variables"
        )
    return S3Store(bucket, prefix.strip("/"), connection=connect(proven=proven))
