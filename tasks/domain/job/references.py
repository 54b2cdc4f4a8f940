"""The places that rows of a source may refer to: the source's own files, and those that `source.references` allows.

Rows are untrusted input: their author may not be the user who runs the job.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from tasks.domain.job.credentials import PLACE
from tasks.domain.strict import Strict

SCHEME = re.compile(r"^([A-Za-z][\w+.-]*)://")
# Stores whose servers are set by the machine's own configuration, and the web, where each address is checked before a connection.
OPENABLE = ("https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss")
WEB = ("https", "http")
KERNEL = ("/proc/", "/sys/", "/dev/")  # not regular files: reading may never end, or reveal data of processes


def _checked(entry: str) -> str:
    scheme = entry.partition("://")[0].lower()
    if entry.startswith("/"):
        return posixpath.normpath(entry)
    if scheme not in OPENABLE:
        raise ValueError(
            f"source.references: '{entry}' is neither one of {', '.join(OPENABLE)}, nor a URI of one of them such as s3://bucket/folder/, "
            "nor an absolute path"
        )
    if "://" in entry and not entry.partition("://")[2].strip("/"):
        raise ValueError(f"source.references: '{entry}' names no host or bucket: write '{scheme}' to open all of them")
    return entry


Reference = Annotated[str, AfterValidator(_checked), Field(title="scheme, URI or folder", json_schema_extra=PLACE)]


class References(Strict):
    """The places that rows of a source may refer to."""

    root: str = Field(description="The root of the source's own files: an absolute path or a URI.")
    opened: tuple[Reference, ...] = ()

    def resolve(self, place: str, folder: str) -> str:
        """Resolve a row's reference to an absolute path or a URI.

        Args:
            place: the reference in the row; a relative one is below `folder`.
            folder: the folder of the row's file.

        Raises:
            ValueError: the reference is not allowed; names the setting that allows it, if any.
        """
        scheme = SCHEME.match(place)
        if scheme is None and not place.startswith(("/", "file:")):
            return self._beside(place, folder)
        kind = scheme[1].lower() if scheme else "file"
        if kind in {"file", "local"}:
            return self._on_this_machine(_plain_path(place))
        return self._uri(f"{kind}{place[len(kind) :]}")

    def own(self, place: str) -> bool:
        """Whether a URI is below the source's root."""
        return _below(place, self.root)

    def refusal(self, uri: str) -> str | None:
        """Return why a URI, such as the target of a redirect, may not be read; None: it may."""
        try:
            self._uri(uri)
        except ValueError as error:
            return str(error)
        return None

    def names_host(self, uri: str) -> bool:
        """Whether the job allows this host by name, not only by scheme."""
        return any("://" in entry and _below(uri, entry) for entry in self.opened)

    def _beside(self, place: str, folder: str) -> str:
        inside = posixpath.normpath(place)
        if inside.split("/")[0] == "..":
            raise ValueError(f"'{place}' points outside the folder of its file: use an absolute path or a URI")
        if "://" in place or ("::" in place and not folder.startswith(("/", "s3://", "s3a://"))):
            raise ValueError(f"'{place}' has '::' or '://', which chains file systems: give the file itself")
        return f"{folder}/{inside}"

    def _on_this_machine(self, path: str) -> str:
        """Check a path of this machine: allowed if the source is on this machine or the job allows a folder above it."""
        whole = posixpath.normpath(path)
        if f"{whole}/".startswith(KERNEL):
            raise ValueError(f"'{path}' is not a file but part of the system")
        opened = (entry for entry in self.opened if entry.startswith("/"))
        if self.root.startswith("/") or any(_below(whole, entry) for entry in opened):
            return path
        where = posixpath.dirname(whole)
        raise ValueError(f"'{path}' is a file on this machine, but the source is not on it: to allow it, set source.references: [{where}/]")

    def _uri(self, uri: str) -> str:
        parts = urlsplit(uri)
        if "::" in uri and (parts.scheme not in WEB or not parts.hostname or parts.port == 0):  # IPv6 addresses contain '::'
            raise ValueError(f"'{uri}' has '::', which chains file systems: give the file itself")
        if {"..", "."} & {*uri.split("/"), *unquote(parts.path).split("/")} or "\\" in uri:
            raise ValueError(f"'{uri}' has '..', '.' or a backslash in its path: write it without")
        if self.own(uri):
            return uri
        if parts.scheme not in {*OPENABLE, "s3a"}:
            raise ValueError(
                f"'{uri}' is outside the source, and {parts.scheme}:// cannot be opened for rows: copy the files into the source"
            )
        if "@" in parts.netloc and parts.scheme in WEB:
            raise ValueError(f"'{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}' contains a user name: leave it out")
        if not any(_below(uri, entry) if "://" in entry else _scheme(entry) == _scheme(parts.scheme) for entry in self.opened):
            hint = f"{parts.scheme}://{parts.netloc}/"
            raise ValueError(f"'{uri}' is outside the source: to allow it, set source.references: ['{hint}']")
        return uri


def _plain_path(place: str) -> str:
    path = re.sub(r"^(file|local):(//)?", "", place, flags=re.IGNORECASE)
    path = unquote(path) if path != place else path
    if not path.startswith("/"):
        raise ValueError(f"'{place}' names another machine, or is not an absolute path: write file:///folder/name")
    return path


def _below(place: str, root: str) -> bool:
    """Whether a place is in a folder, bucket or host; s3a equals s3, and schemes and hosts are case-insensitive."""
    return _canonical(place).startswith(_canonical(root).rstrip("/") + "/")


def _scheme(name: str) -> str:
    return {"s3a": "s3", "gcs": "gs"}.get(name.lower(), name.lower())


def _canonical(place: str) -> str:
    if place.startswith("/"):
        return place
    scheme, _, rest = place.partition(":")
    scheme, rest = _scheme(scheme), rest.removeprefix("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.lower() if scheme in WEB else host}{slash}{path}"
