"""Locations of tables, and the settings that their libraries need to read them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from urllib.parse import urlsplit

from tasks.adapters.files.fsspec_files import first_words
from tasks.adapters.files.local_files import is_local, local_path
from tasks.adapters.object_store.s3_client import connect
from tasks.domain.errors import BadInput, KitestringError, Transient
from tasks.domain.job.references import SCHEME

_REFUSED = re.compile(r"\b(40[13]|Forbidden|Unauthorized|AccessDenied|ACCESS_DENIED|InvalidAccessKeyId|SignatureDoesNotMatch)\b")
INSTALL = "pip install -e '.[lake]'"


def imported(module: str, kind: str) -> ModuleType:
    """Import a library of the extra `lake`.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"source.kind: {kind} needs a package that is not installed ({error.name}): {INSTALL}") from error


def written_place(path: str) -> str:
    """Like `plain_place` for a path in Iceberg's metadata, where a `%` of a local URI is literal."""
    return f"/{path.removeprefix('file:').lstrip('/')}" if path.startswith("file:") else plain_place(path)


def plain_place(uri: str) -> str:
    """Return a local path or s3:// URI, as `tasks.adapters.files` opens it.

    Raises:
        BadInput: the location is of another kind.
    """
    if is_local(uri):
        return local_path(uri).rstrip("/")
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in {"s3", "s3a", "s3n"}:
        return f"s3://{uri[len(scheme[0]) :].rstrip('/')}"
    raise BadInput(f"'{uri}': tables are read from local folders and from s3://")


def name_below(root: str, path: str) -> str:
    """Return a file's name relative to its table's folder, or its base name if it is elsewhere.

    Raises:
        BadInput: a table in a store names a local file, which the table's author may not be allowed to read.
    """
    if "://" in root and "://" not in path:
        raise BadInput(f"table '{root}' names the local file '{path}': a table in a store may not")
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else path.rpartition("/")[2]


def unreadable(table: str, error: Exception) -> KitestringError:
    """Translate a library's read error; its message comes from the store below."""
    if _REFUSED.search(str(error)):
        return BadInput(f"{table} cannot be read: S3 refuses: check the AWS credentials and the right to list and read it")
    return Transient(f"{table} could not be read: {first_words(error)}")


def s3_settings(names: Mapping[str, str]) -> dict[str, str]:
    """Return endpoint, region and credentials as boto3 finds them, like for every other source.

    Args:
        names: a library's names of `endpoint`, `region`, `access`, `secret` and `token`; settings without a value are omitted.

    Raises:
        BadInput: the environment is misconfigured.
    """
    connection = connect()
    credentials = connection.session.get_credentials()
    if credentials is None:
        raise BadInput("S3: there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    frozen, endpoint = credentials.get_frozen_credentials(), connection.client.meta.endpoint_url
    own = not urlsplit(endpoint).netloc.endswith(("amazonaws.com", "amazonaws.com.cn"))
    values = {
        "endpoint": endpoint if own else None,
        "region": connection.client.meta.region_name,
        "access": frozen.access_key,
        "secret": frozen.secret_key,
        "token": frozen.token,
    }
    return {names[name]: value for name, value in values.items() if value}
