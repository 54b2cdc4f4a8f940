"""Files in S3 and compatible stores: listed with boto3, read through pyarrow.

Endpoint, region and credentials come from the AWS variables and files as boto3 reads them, so
AWS_ENDPOINT_URL points everything at MinIO or Ceph.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnectionError
from pyarrow import fs

from tasks.adapters.files.globs import WILD, make_pattern, split_pattern
from tasks.adapters.files.left_out import LeftOut
from tasks.adapters.files.s3_ranges import BUFFER_BYTES, RangedObject, is_no_path
from tasks.adapters.object_store.s3_client import TRIES, S3Connection, connect, cure, endpoint_of, s3_code
from tasks.domain.errors import BadInput, KitestringError, Transient
from tasks.domain.shards.shard import FileVersion

BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}  # the remedy is known
REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401", "AllAccessDisabled"}
FEW_VERSIONS = 4  # up to this many versions are requested one by one; more come from a listing


class S3Drive:
    """s3://bucket/key. A file's version is its ETag."""

    def files(self, uri: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
        bucket, key = split_uri(uri)
        if not bucket:
            raise BadInput(f"'{uri}' names no bucket: write s3://bucket/folder")
        try:
            yield from _files(_client(), bucket, key, suffixes, left_out)
        except (HTTPClientError, NoConnectionError):
            raise BadInput(f"no server answers for '{uri}': correct AWS_ENDPOINT_URL, or start the server") from None
        except (BotoCoreError, ClientError) as error:
            raise _translated(error, uri, bucket) from None

    def versions(self, files: Iterable[FileVersion]) -> Iterator[tuple[FileVersion, FileVersion | None]]:
        planned = list(files)
        bucket, _ = split_uri(planned[0].path)
        try:
            if len(planned) <= FEW_VERSIONS:
                yield from ((file, _head(_client(), *split_uri(file.path), file.name)) for file in planned)
                return
            keys = sorted(split_uri(file.path)[1] for file in planned)
            now = {file.path: file for file in _between(_client(), bucket, keys[0], keys[-1])}
            first = _head(_client(), bucket, keys[0], keys[0])
            now |= {first.path: first} if first else {}
            yield from ((file, now.get(file.path)) for file in planned)
        except (BotoCoreError, ClientError) as error:
            raise _translated(error, planned[0].path, bucket) from None

    def open(self, path: str) -> pa.NativeFile:
        bucket, key = split_uri(path)
        try:
            if is_no_path(key):
                return _open_ranges(path, bucket, key)
            return _system().open_input_file(f"{bucket}/{key}")
        except (BotoCoreError, ClientError) as error:
            raise _translated(error, path, bucket) from None


def _open_ranges(path: str, bucket: str, key: str) -> pa.NativeFile:
    version = _head(_client(), bucket, key, key)
    if version is None:
        raise FileNotFoundError(path)
    ranges = RangedObject(_client(), bucket, key, version.size, lambda error: _translated(error, path, bucket))
    return pa.PythonFile(io.BufferedReader(ranges, BUFFER_BYTES), mode="r")


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key."""
    bucket, _, key = re.sub(r"^s3a?://", "", uri).partition("/")
    return bucket, key


def _files(client: Any, bucket: str, key: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
    root, parts = split_pattern(key)
    if not parts and key and not key.endswith("/"):
        single = _head(client, bucket, key, key.rsplit("/", 1)[-1])
        if single is not None:
            yield single
            return
    folder = f"{root.rstrip('/')}/" if root else ""
    # The text before the first wildcard narrows the listing: a flat bucket may hold millions of keys.
    prefix = folder + (WILD.split(parts[0])[0] if parts else "")
    pattern = make_pattern(parts, suffixes)
    for item in _listing(client, bucket, prefix):
        name = item["Key"].removeprefix(folder)
        if item["Key"].endswith("/") and not item["Size"]:
            continue  # the folder marker of S3 consoles
        if not name.endswith("/") and pattern.takes_file(name):
            yield _version(bucket, item, name)
        else:
            pattern.note_left_out(name, left_out)


def _listing(client: Any, bucket: str, prefix: str, after: str = "") -> Iterator[Any]:
    start = {"StartAfter": after} if after else {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start):
        yield from page.get("Contents", [])


def _between(client: Any, bucket: str, first: str, last: str) -> Iterator[FileVersion]:
    """Yield the current objects after one key and up to another."""
    common = os.path.commonprefix([first, last])  # noqa: RUF071 - keys have no folders
    items = _listing(client, bucket, common, after=first)
    for item in takewhile(lambda o: o["Key"] <= last, items):
        yield _version(bucket, item, item["Key"])


def _version(bucket: str, item: Any, name: str) -> FileVersion:
    return FileVersion(path=f"s3://{bucket}/{item['Key']}", name=name, size=item["Size"], version=item["ETag"].strip('"'))


def _head(client: Any, bucket: str, key: str, name: str) -> FileVersion | None:
    try:
        response = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
            return None
        raise
    return _version(bucket, {"Key": key, "Size": response["ContentLength"], "ETag": response["ETag"]}, name)


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def _client() -> Any:
    return _connection(_environment()).client


@lru_cache(maxsize=4)
def _connection(_: tuple[tuple[str, str], ...]) -> S3Connection:
    return connect()


def _system() -> fs.S3FileSystem:
    client, credentials = _client(), _connection(_environment()).session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    frozen = credentials.get_frozen_credentials()  # boto3 refreshes them before they expire
    return _cached_system(client.meta.endpoint_url, client.meta.region_name, frozen.access_key, frozen.secret_key, frozen.token)


@lru_cache(maxsize=4)
def _cached_system(endpoint: str, region: str, access: str, secret: str, token: str | None) -> fs.S3FileSystem:
    parts = urlsplit(endpoint)
    own = not parts.netloc.endswith(("amazonaws.com", "amazonaws.com.cn"))
    return fs.S3FileSystem(
        access_key=access,
        secret_key=secret,
        session_token=token,
        region=region,
        scheme=parts.scheme,
        endpoint_override=parts.netloc + parts.path.rstrip("/") if own else None,  # with an override, paths include the bucket
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
        connect_timeout=10,
        request_timeout=60,
    )


def _translated(error: Exception, uri: str, bucket: str) -> KitestringError:
    """Translate an SDK error. Messages have its code, not the SDK's text, which can quote an endpoint with a password."""
    if isinstance(error, ClientError):
        code = s3_code(error)
        if code in {"NoSuchBucket", "InvalidBucketName"}:
            return BadInput(f"there is no S3 bucket '{bucket}' at {endpoint_of(_client())}: check source.uri and AWS_ENDPOINT_URL")
        if code in BAD_KEYS:
            return BadInput(f"S3 bucket '{bucket}' refuses ({code}): {cure(error)}")
        if code in REFUSED:
            return BadInput(f"S3 bucket '{bucket}' refuses ({code}): check the AWS credentials and the right to list and read it")
        return Transient(f"'{uri}': S3 answered {code}")
    if isinstance(error, HTTPClientError | NoConnectionError):
        return Transient(f"S3 does not answer for '{uri}' ({s3_code(error)}): check AWS_ENDPOINT_URL")
    return BadInput(f"'{uri}' cannot be read: {cure(error)}")
