"""What is too large for one put: S3's multipart upload, each call tried again by itself.

What a killed process leaves of an upload is not listed and costs storage: give the bucket a lifecycle rule
that aborts unfinished uploads after a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.object_store.s3_client import code_of
from tasks.adapters.object_store.s3_retry import Calls
from tasks.domain.errors import KitestringError, Transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PIECE = 32 << 20  # bytes; S3 takes 5 MiB to 5 GiB, and at most 10,000 of them: 320 GB


def write_in_pieces(client: S3Client, calls: Calls, data: bytes | Path, *, bucket: str, name: str) -> None:
    """Put bytes or a file, one piece in memory at a time; the object appears whole, or the upload is aborted.

    Raises:
        Transient: no success after all tries of one call, or the server lost the upload.
    """
    made = calls.run(lambda: client.create_multipart_upload(Bucket=bucket, Key=name))
    upload = _Upload(client=client, calls=calls, bucket=bucket, name=name, id=made["UploadId"])
    try:
        parts = [upload.put(number, body) for number, body in enumerate(_pieces(data), 1)]
        upload.complete(parts, size=len(data) if isinstance(data, bytes) else data.stat().st_size)
    except BaseException:
        with suppress(KitestringError):
            upload.abort()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    client: S3Client
    calls: Calls
    bucket: str
    name: str
    id: str

    def put(self, number: int, body: bytes) -> CompletedPartTypeDef:
        def put() -> str:
            try:
                return self.client.upload_part(Bucket=self.bucket, Key=self.name, UploadId=self.id, PartNumber=number, Body=body)["ETag"]
            except self.client.exceptions.NoSuchUpload:
                raise self._lost() from None

        return {"PartNumber": number, "ETag": self.calls.run(put)}

    def complete(self, parts: list[CompletedPartTypeDef], *, size: int) -> None:
        """Where the upload is gone, an earlier try whose answer was lost may have completed it: look."""

        def complete() -> bool:
            try:
                self.client.complete_multipart_upload(Bucket=self.bucket, Key=self.name, UploadId=self.id, MultipartUpload={"Parts": parts})
            except self.client.exceptions.NoSuchUpload:
                return False
            return True

        if not self.calls.run(complete) and not self._stands(len(parts), size):
            raise self._lost()

    def abort(self) -> None:
        def abort() -> None:
            with suppress(self.client.exceptions.NoSuchUpload):
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.name, UploadId=self.id)

        self.calls.run(abort)

    def _stands(self, pieces: int, size: int) -> bool:
        def stands() -> bool:
            try:
                there = self.client.head_object(Bucket=self.bucket, Key=self.name)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
            return there["ContentLength"] == size and there["ETag"].strip('"').endswith(f"-{pieces}")

        return self.calls.run(stands)

    def _lost(self) -> Transient:
        return Transient(f"{self.name}: the server lost the upload; it has to begin again")


def _pieces(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield from (data[at : at + PIECE] for at in range(0, len(data), PIECE))
        return
    try:
        with data.open("rb") as file:
            while body := file.read(PIECE):
                yield body
    except OSError as error:
        raise disk_error(error, data) from error
