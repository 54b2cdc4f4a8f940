"""A store in a bucket of S3 or an S3-compatible server (MinIO, Ceph, R2).

`commit` is a put with `If-None-Match: *` (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html):
412 means that another object exists, 409 that another conditional write was in progress. A put whose
reply was lost may have been executed, so the object is read and compared before the put is retried.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.object_store.key_rules import checked
from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.object_store.s3_client import (
    FAILURES,
    UNPROVEN_TRIES,
    S3Connection,
    S3Outcome,
    connect,
    cure,
    endpoint_of,
    outcome,
    s3_code,
)
from tasks.domain.errors import BadInput, NoAnswer, OutcomeUnknown, Transient
from tasks.domain.ports import StoredObject

MOST_KEYS = 1_000  # limit of one DeleteObjects
KEYS_AT_ONCE = 16  # concurrent single deletes on a server without DeleteObjects
MULTIPART_BYTES = 64 << 20  # bytes; larger objects are uploaded in parts, each retried alone, so a file is never whole in memory
PIECE = 32 << 20  # bytes; S3 accepts 5 MiB to 5 GiB, and at most 10,000 of them: 320 GB
PIECES_AT_ONCE = 4
OBJECT_READS = 4  # of an object whose transfer broke off
COMMITS = RetryPolicy(what="checkpoint", seconds=60, first=0.5, longest=16)
_CUT_SHORT = (boto.IncompleteReadError, boto.HTTPClientError)


class S3Store:
    """A `Store` below a prefix of a bucket; thread-safe.

    Args:
        bucket: its name.
        prefix: prepended to every key; may be empty.
        connection: from `tasks.adapters.object_store.s3_client.connect`.
        commits: retry policy of `commit`; the SDK retries all other calls.

    Every method raises BadInput if bucket, endpoint or credentials are wrong, with the remedy and never a
    secret; and Transient if the server is busy or unreachable after all tries. `commit` raises
    OutcomeUnknown if the object may or may not have been written.

    The multipart upload of a killed process is not listed and costs storage: give the bucket a lifecycle
    rule that aborts unfinished uploads after a day.
    """

    def __init__(self, bucket: str, prefix: str = "", *, connection: S3Connection | None = None, commits: RetryPolicy = COMMITS) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._connection = connection or connect()
        self._client, self._commits = self._connection.client, commits
        self._batches = True  # until the server refuses one

    def read(self, key: str) -> bytes | None:
        name = self._name(key)
        with self._translated_errors(), suppress(self._client.exceptions.NoSuchKey):
            return self._content(name, OBJECT_READS)
        return None

    def _content(self, name: str, tries: int) -> bytes:
        body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]  # the SDK retries until the content begins
        try:
            return body.read()
        except _CUT_SHORT:
            if tries == 1:
                raise
        return self._content(name, tries - 1)

    def write(self, key: str, data: bytes | Path) -> None:
        """Upload an object atomically. Never conditional: s3transfer 0.19 does not accept IfNoneMatch."""
        name = self._name(key)
        try:
            with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
                self._upload(name, file, large=file.seek(0, io.SEEK_END) > MULTIPART_BYTES)
        except OSError as error:
            raise disk_error(error, key if isinstance(data, bytes) else data) from error

    def _upload(self, name: str, file: BinaryIO, *, large: bool) -> None:
        pieces = TransferConfig(
            multipart_threshold=MULTIPART_BYTES, multipart_chunksize=PIECE, max_concurrency=PIECES_AT_ONCE, use_threads=large
        )
        with self._translated_errors():
            for retry in (True, False):
                file.seek(0)
                try:
                    self._client.upload_fileobj(file, self._bucket, name, Config=pieces)
                except self._client.exceptions.NoSuchUpload:  # lost, or completed by an attempt whose reply was lost
                    if not retry:
                        raise
                else:
                    return

    def commit(self, key: str, data: bytes) -> bool:
        """Write an object unless it exists. Two writers of the same bytes may both get True."""
        name, uncertain, backoff = self._name(key), False, self._commits.start()
        while True:
            try:
                self._connection.once.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
            except FAILURES as error:
                means = self._classify(error, backoff.tries)
                uncertain = uncertain or means in ("unanswered", "busy")
                if means == "taken" and not uncertain:
                    return False
                if uncertain and (stored := self._read_back(key)) is not None:
                    return stored == data
                if not backoff.wait():
                    unknown = OutcomeUnknown(f"{self.url}/{key}: it is unknown whether it was written")
                    raise unknown if uncertain else self._transient(error, backoff.tries) from None
            else:
                return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix))
        while True:
            with self._translated_errors():
                page = next(pages, None)
            if page is None:
                return
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # the folder marker of S3 consoles
                    key = item["Key"].removeprefix(self._prefix)
                    yield StoredObject(key=key, size=item["Size"], modified=item["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        name = self._name(key)

        with self._translated_errors(), suppress(self._client.exceptions.NoSuchKey):  # AWS never raises it, other servers do
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects in batches.

        Keys are deleted one by one, several at a time, if the server lacks DeleteObjects or requires another checksum for it, and
        if it did not remove them with their batch: the SDK retries only a request that fails as a whole.
        """
        checked_keys = iter([checked(key) for key in keys])
        while batch := list(islice(checked_keys, MOST_KEYS)):
            remaining = self._delete_batch(batch) if self._batches else batch
            for _ in ahead(self.delete, remaining, at_once=KEYS_AT_ONCE):
                pass

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete a batch. Returns the keys that the server did not remove; deleting them one by one reports the reason."""
        remaining = {self._name(key): key for key in keys}
        objects = [{"Key": name} for name in remaining]
        try:
            with self._translated_errors():
                reply = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
        except BadInput:
            if not self._connection.contact.proven:  # no server, or none that answers
                raise
            self._batches = False
            return keys
        failed = {error.get("Key", "") for error in reply.get("Errors", []) if error.get("Code") != "NoSuchKey"}
        return [key for name, key in remaining.items() if name in failed or not failed <= remaining.keys()]

    def _name(self, key: str) -> str:
        return checked(self._prefix + checked(key))

    def _read_back(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except Transient as error:
            raise OutcomeUnknown(f"{self.url}/{key}: it is unknown whether it was written: {error}") from None

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise the failure of a call after all tries as a leaf of the error tree."""
        try:
            yield
        except FAILURES as error:
            self._classify(error, UNPROVEN_TRIES)
            raise self._transient(error, self._connection.tries) from None

    def _classify(self, error: Exception, tries: int) -> S3Outcome:
        """Classify a failed attempt that may be retried.

        Raises:
            BadInput: a retry is pointless.
        """
        means = outcome(error)
        hopeless = means in ("unreachable", "unanswered") and self._connection.contact.hopeless(tries)
        if means == "refused" or hopeless:
            raise (NoAnswer if hopeless else BadInput)(f"{self._place}: {cure(error)}") from None
        return means

    def _transient(self, error: Exception, tries: int) -> Transient:
        return Transient(f"{self._place}: no success in {tries} tries ({s3_code(error)})")

    @property
    def _place(self) -> str:
        return f"bucket '{self._bucket}' at {endpoint_of(self._client)}"
