"""Where tables are, and what their libraries need to read there."""

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
    """A library of the extra `lake`.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"source.kind: {kind} needs a package that is not installed ({error.name}): {INSTALL}") from error


def written_place(path: str) -> str:
    """The same of a path within Iceberg's metadata, where a `%` of a local URI is literal."""
    return f"/{path.removeprefix('file:').lstrip('/')}" if path.startswith("file:") else plain_place(path)


def plain_place(uri: str) -> str:
    """A local path, or an s3:// URI, as `tasks.adapters.files` opens it.

    Raises:
        BadInput: it is elsewhere.
    """
    if is_local(uri):
        return local_path(uri).rstrip("/")
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in {"s3", "s3a", "s3n"}:
        return f"s3://{uri[len(scheme[0]) :].rstrip('/')}"
    raise BadInput(f"'{uri}': tables are read from local folders and from s3://")


def name_below(root: str, path: str) -> str:
    """A file's name below its table's folder; of a file elsewhere, its own.

    Raises:
        BadInput: a table in a store names a file of this machine, which the table's author may not have read.
    """
    if "://" in root and "://" not in path:
        raise BadInput(f"table '{root}' names the local file '{path}': a table in a store may not")
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else path.rpartition("/")[2]


def unreadable(what: str, error: Exception) -> KitestringError:
    """A library's error on reading a table, whose words are those of the store below it."""
    if _REFUSED.search(str(error)):
        return BadInput(f"{what} cannot be read: S3 refuses: check the AWS credentials and the right to list and read it")
    return Transient(f"{what} could not be read: {first_words(error)}")


def s3_settings(names: Mapping[str, str]) -> dict[str, str]:
    """Endpoint, region and credentials, as boto3 finds them for every other source.

    Args:
        names: what a library calls `endpoint`, `region`, `access`, `secret` and `token`; without a value a setting is left out.

    Raises:
        BadInput: the environment is set wrongly.
    """
    found = connect()
    credentials = found.session.get_credentials()
    if credentials is None:
        raise BadInput("S3: there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    frozen, endpoint = credentials.get_frozen_credentials(), found.client.meta.endpoint_url
    own = not urlsplit(endpoint).netloc.endswith(("amazonaws.com", "amazonaws.com.cn"))
    values = {
        "endpoint": endpoint if own else None,
        "region": found.client.meta.region_name,
        "access": frozen.access_key,
        "secret": frozen.secret_key,
        "token": frozen.token,
    }
    return {names[name]: value for name, value in values.items() if value}
