"""A job is stored in many places (parameters, logs, reports), so its URIs must not contain credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

ReadSecret = Callable[[str, str], str]  # returns a Secret block's text, given the setting that names the block and the block's name

_NAMES = r"(?:[Tt]oken|TOKEN|[Ss]ecret|SECRET|[Pp]ass(?:word|wd)?|PASSWORD|[Pp]wd|[Ss]ig(?:nature)?|[Cc]redential|[Aa]uth|[Kk]ey(?:_?[Ii][Dd])?|KEY)"

# One pattern, without flags, for pydantic and for the JSON schema, by which a Prefect server refuses a parameter before it stores
# it. It matches no URI whose authority has user:password@, anything before an @ in schemes without user names (a token), or a colon
# without a port (a password with a slash), and none whose query has a parameter with the name of a secret.
FREE_OF_CREDENTIALS = (
    r"^(?![\s\S]*://[^/?#]*:[^/?#]*@)"
    r"(?![\s\S]*(?:https?|s3a?)://[^/?#]*@)"
    r"(?![\s\S]*://[^/?#\[]*(?<!:):(?!:)(?![0-9]*(?:[/?#]|$)))"
    rf"(?![\s\S]*://[\s\S]*[?&;][^=&?#]*{_NAMES}=)"
)
PLACE: dict[str, Any] = {"pattern": FREE_OF_CREDENTIALS}  # `json_schema_extra` of a field that holds a URI

_FREE = re.compile(FREE_OF_CREDENTIALS)
_USER_IN_URI = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_IN_QUERY = re.compile(rf"([?&;][^=&?#\s]*{_NAMES}=)[^&\s'\"]+")


def has_credentials(uri: str) -> bool:
    """Whether a path or URI contains what looks like a password, a token or a key."""
    return _FREE.match(uri) is None


def without_credentials(text: str) -> str:
    """Remove `user:password@` and the values of secrets from any URI in a text."""
    return _SECRET_IN_QUERY.sub(r"\1***", _USER_IN_URI.sub("", text)) if "://" in text else text


def settings_with_credentials(document: object, path: str = "") -> Iterator[str]:
    """Yield the dotted paths of the settings that contain credentials."""
    if isinstance(document, str):
        if has_credentials(document):
            yield path
    elif isinstance(document, BaseModel):
        yield from settings_with_credentials(dict(document), path)
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield from settings_with_credentials(value, f"{path}.{key}" if path else str(key))
    elif isinstance(document, list | tuple):
        for value in document:
            yield from settings_with_credentials(value, path)
