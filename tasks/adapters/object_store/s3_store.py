"""The store in a bucket of S3, or of a server that speaks S3 (MinIO, Ceph, R2).

`commit` is a put with `If-None-Match: *` (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html):
412 says that another object exists, 409 that another conditional write was under way. A put whose
answer was lost may have been carried out, so the object is read and compared before the put is tried again.
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
    STRANGER_TRIES,
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

MOST_KEYS = 1_000  # that one DeleteObjects takes
KEYS_AT_ONCE = 16  # where it takes none
MULTIPART_BYTES = 64 << 20  # bytes; larger objects are uploaded in parts, each retried alone, and a file is never whole in memory
PIECE = 32 << 20  # bytes; S3 takes 5 MiB to 5 GiB, and at most 10,000 of them: 320 GB
PIECES_AT_ONCE = 4
OBJECT_READS = 4  # of an object whose content broke off
COMMITS = RetryPolicy(what="checkpoint", seconds=60, first=0.5, longest=16)
_CUT_SHORT = (boto.IncompleteReadError, boto.HTTPClientError)


class S3Store:
    """A `Store` below a prefix of a bucket; many threads may use one.

    Args:
        bucket: its name.
        prefix: put before every key; may be empty.
        connection: as `tasks.adapters.object_store.s3_client.connect` makes it.
        commits: how a commit is tried again; all else is by the SDK.

    Every verb raises BadInput where bucket, endpoint or credentials are wrong, with the cure and never a
    secret; and Transient where the server is busy or out of reach after all tries. `commit` raises
    OutcomeUnknown where the object may or may not have been put.

    What a killed process leaves of an upload in pieces is not listed and costs storage: give the bucket a lifecycle
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
        with self._telling(), suppress(self._client.exceptions.NoSuchKey):
            return self._content(name, OBJECT_READS)
        return None

    def _content(self, name: str, tries: int) -> bytes:
        body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]  # the SDK tries again until the content begins
        try:
            return body.read()
        except _CUT_SHORT:
            if tries == 1:
                raise
        return self._content(name, tries - 1)

    def write(self, key: str, data: bytes | Path) -> None:
        """A large object appears whole, or its upload is aborted. Never conditional: s3transfer 0.19 takes no IfNoneMatch."""
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
        with self._telling():
            for again in (True, False):
                file.seek(0)
                try:
                    self._client.upload_fileobj(file, self._bucket, name, Config=pieces)
                except self._client.exceptions.NoSuchUpload:  # lost, or completed by a try whose answer was lost
                    if not again:
                        raise
                else:
                    return

    def commit(self, key: str, data: bytes) -> bool:
        """Of two writers of the same bytes both may get True: the object is what either wanted."""
        name, uncertain, backoff = self._name(key), False, self._commits.start()
        while True:
            try:
                self._connection.once.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
            except FAILURES as error:
                means = self._weigh(error, backoff.tries)
                uncertain = uncertain or means in ("unanswered", "busy")
                if means == "taken" and not uncertain:
                    return False
                if uncertain and (there := self._look(key)) is not None:
                    return there == data
                if not backoff.wait():
                    unknown = OutcomeUnknown(f"{self.url}/{key}: it is unknown whether it was written")
                    raise unknown if uncertain else self._passing(error, backoff.tries) from None
            else:
                return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix))
        while True:
            with self._telling():
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", []):
                if not found["Key"].endswith("/"):  # a console's mark for a folder
                    key = found["Key"].removeprefix(self._prefix)
                    yield StoredObject(key=key, size=found["Size"], modified=found["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        name = self._name(key)

        with self._telling(), suppress(self._client.exceptions.NoSuchKey):  # AWS never says so, others do
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def delete_many(self, keys: Iterable[str]) -> None:
        """A server without DeleteObjects, or that wants another checksum of it, is asked for each key, several at a time.

        So is one that did not remove some of a batch: the SDK retries only a request that is refused as a whole.
        """
        checked_keys = iter([checked(key) for key in keys])
        while some := list(islice(checked_keys, MOST_KEYS)):
            left = self._delete_batch(some) if self._batches else some
            for _ in ahead(self.delete, left, at_once=KEYS_AT_ONCE):
                pass

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Those that are left, because the server refused: to be tried one by one, which says why where it is refused again."""
        left = {self._name(key): key for key in keys}
        objects = [{"Key": name} for name in left]
        try:
            with self._telling():
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
        except BadInput:
            if not self._connection.contact.proven:  # no server, or none that answers
                raise
            self._batches = False
            return keys
        failed = {error.get("Key", "") for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey"}
        return [key for name, key in left.items() if name in failed or not failed <= left.keys()]

    def _name(self, key: str) -> str:
        return checked(self._prefix + checked(key))

    def _look(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except Transient as error:
            raise OutcomeUnknown(f"{self.url}/{key}: it is unknown whether it was written: {error}") from None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What a call fails with after all tries, as a leaf of the error tree."""
        try:
            yield
        except FAILURES as error:
            self._weigh(error, STRANGER_TRIES)
            raise self._passing(error, self._connection.tries) from None

    def _weigh(self, error: Exception, tries: int) -> S3Outcome:
        """What a failed try means for the next one.

        Raises:
            BadInput: that there should be none.
        """
        means = outcome(error)
        hopeless = means in ("unreachable", "unanswered") and self._connection.contact.hopeless(tries)
        if means == "refused" or hopeless:
            raise (NoAnswer if hopeless else BadInput)(f"{self._place}: {cure(error)}") from None
        return means

    def _passing(self, error: Exception, tries: int) -> Transient:
        return Transient(f"{self._place}: no success in {tries} tries ({s3_code(error)})")

    @property
    def _place(self) -> str:
        return f"bucket '{self._bucket}' at {endpoint_of(self._client)}"
