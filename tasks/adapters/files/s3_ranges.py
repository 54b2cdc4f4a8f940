"""Reads S3 objects by ranges with boto3, which uses keys verbatim: Arrow's SDK interprets '//', '.' and '..' in a key as a path."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.domain.errors import KitestringError

BUFFER_BYTES = 1 << 20


def is_no_path(key: str) -> bool:
    """Return whether a key would change if it were normalised as a path."""
    return bool({"", ".", ".."} & set(key.split("/")))


class RangedObject(io.RawIOBase):
    """One object, fetched by ranges as it is read.

    Args:
        client: boto3's client.
        bucket: bucket of the object.
        key: key of the object.
        size: bytes of the object.
        translate: converts an error of the SDK.
    """

    def __init__(self, client: Any, bucket: str, key: str, size: int, translate: Callable[[Exception], KitestringError]) -> None:
        super().__init__()
        self._client, self._where, self._size, self._translate = client, {"Bucket": bucket, "Key": key}, size, translate
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        try:
            data = self._client.get_object(**self._where, Range=f"bytes={self._at}-{stop - 1}")["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise self._translate(error) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
