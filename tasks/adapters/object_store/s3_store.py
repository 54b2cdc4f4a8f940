"""The store in a bucket of S3, or of a server that speaks S3 (MinIO, Ceph, R2).

`commit` is a put with `If-None-Match: *` (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html):
412 says that another object stands there, 409 that another conditional write was under way. A put whose
answer was lost may have been carried out, so the object is read and compared before the put is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.object_store.key_rules import checked
from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.object_store.s3_client import FAILURES, connect, some_refused
from tasks.adapters.object_store.s3_multipart import write_in_pieces
from tasks.adapters.object_store.s3_retry import Calls, Patience
from tasks.domain.errors import BadInput, OutcomeUnknown, Transient
from tasks.domain.ports import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

MOST_KEYS = 1_000  # that one DeleteObjects takes
KEYS_AT_ONCE = 16  # where it takes none
LARGE = 64 << 20  # bytes; what is larger goes up in pieces, each tried again by itself, and a file is never whole in memory


class S3Store:
    """A `Store` below a prefix of a bucket; many threads may use one.

    Args:
        bucket: its name.
        prefix: put before every key; may be empty.
        patience: how calls are tried again.
        proven: the server has answered before, to whoever starts this process (a rank, say): a refused
            connection is then a passing fault (Transient, after all tries), and otherwise a wrong
            address (BadInput, after three).
        client: as `tasks.adapters.object_store.s3_client.connect` makes it.

    Every verb raises BadInput where bucket, endpoint or credentials are wrong, with the cure and never a
    secret; and Transient where the server is busy or out of reach after all tries. `commit` raises
    OutcomeUnknown where the object may or may not have been put.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, patience: Patience | None = None, proven: bool = False, client: S3Client | None = None
    ) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = client or connect()
        self._calls = Calls(self._client, bucket, patience or Patience(), proven=proven)
        self._batches = True  # until the server refuses one

    def read(self, key: str) -> bytes | None:
        name = self._name(key)

        def get() -> bytes | None:
            try:
                return self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

        return self._calls.run(get)

    def write(self, key: str, data: bytes | Path) -> None:
        name = self._name(key)
        if _size(data) > LARGE:
            write_in_pieces(self._client, self._calls, data, bucket=self._bucket, name=name)
            return
        body = _content(data) if isinstance(data, Path) else data
        self._calls.run(lambda: self._client.put_object(Bucket=self._bucket, Key=name, Body=body))

    def commit(self, key: str, data: bytes) -> bool:
        """Of two writers of the same bytes both may be told True: the object is what either wanted."""
        name, uncertain, last = self._name(key), False, Exception()
        for attempt in range(self._calls.patience.tries):
            try:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
            except FAILURES as error:
                last, means = error, self._calls.weigh(error, attempt)
                uncertain = uncertain or means in ("unanswered", "busy")
                if means == "taken" and not uncertain:
                    return False
                if uncertain and (there := self._look(key)) is not None:
                    return there == data
                self._calls.patience.wait(attempt)
            else:
                self._calls.reached()
                return True
        raise OutcomeUnknown(f"{self.url}/{key}: nobody can say whether it was put") if uncertain else self._calls.passing(last)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        token = ""
        while True:
            page = self._page(prefix, token)
            for found in page.get("Contents", []):
                if not found["Key"].endswith("/"):  # a console's mark for a folder
                    key = found["Key"].removeprefix(self._prefix)
                    yield StoredObject(key=key, size=found["Size"], modified=found["LastModified"].timestamp())
            token = page.get("NextContinuationToken", "")
            if not token:
                return

    def delete(self, key: str) -> None:
        name = self._name(key)

        def remove() -> None:
            try:
                self._client.delete_object(Bucket=self._bucket, Key=name)
            except self._client.exceptions.NoSuchKey:  # AWS never says so, others do
                return

        self._calls.run(remove)

    def delete_many(self, keys: Iterable[str]) -> None:
        """A server without DeleteObjects, or that wants another checksum of it, is asked for each key, several at a time."""
        checked_keys = iter([checked(key) for key in keys])
        while some := list(islice(checked_keys, MOST_KEYS)):
            left = self._delete_batch(some) if self._batches else some
            for _ in ahead(self.delete, left, at_once=KEYS_AT_ONCE):
                pass

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Those that are left, because the server refused: to be tried one by one, which says why where it is refused again."""
        left = {self._name(key): key for key in keys}

        def remove() -> None:
            objects = [{"Key": name} for name in left]
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
            errors = ((error.get("Key", ""), error.get("Code", "")) for error in answer.get("Errors", []))
            failed = {name: code for name, code in errors if code != "NoSuchKey"}
            for name in left.keys() - failed if failed.keys() <= left.keys() else ():
                del left[name]
            if failed:
                raise some_refused(failed.values())

        try:
            self._calls.run(remove)
        except BadInput:
            self._batches = False
        return tuple(left.values())

    def _name(self, key: str) -> str:
        return checked(self._prefix + checked(key))

    def _look(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except Transient as error:
            raise OutcomeUnknown(f"{self.url}/{key}: nobody can say whether it was put: {error}") from None

    def _page(self, prefix: str, token: str) -> ListObjectsV2OutputTypeDef:
        below = self._prefix + prefix
        if not token:
            return self._calls.run(lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=below))
        return self._calls.run(lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=below, ContinuationToken=token))


def _size(data: bytes | Path) -> int:
    if isinstance(data, bytes):
        return len(data)
    try:
        return data.stat().st_size
    except OSError as error:
        raise disk_error(error, data) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error(error, path) from error
