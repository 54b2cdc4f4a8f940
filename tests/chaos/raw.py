"""A collection by pymilvus alone: what is in it, and every way to spoil it behind Kitestring's back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

Row = dict[str, Any]
PAGE = 16_000
BATCH = 1_000
SETTLE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The collection that an alias leads to, and its client."""

    client: MilvusClient
    alias: str
    name: str
    lite: bool

    @property
    def fields(self) -> list[str]:
        return [field["name"] for field in self.client.describe_collection(self.name)["fields"]]

    def rows(self, where: str = 'id != ""') -> list[Row]:
        """Whole rows, by key."""
        found = self.client.query(self.name, filter=where, output_fields=self.fields, limit=PAGE, consistency_level="Strong")
        return sorted(({name: _plain(value) for name, value in row.items()} for row in found), key=lambda row: row["id"])

    def upsert(self, rows: list[Row]) -> None:
        for first in range(0, len(rows), BATCH):
            self.client.upsert(self.name, rows[first : first + BATCH])

    def insert(self, rows: list[Row]) -> None:
        """As careless scripts do: on a server a key that is there is there twice then."""
        for first in range(0, len(rows), BATCH):
            self.client.insert(self.name, rows[first : first + BATCH])

    def delete(self, keys: list[str]) -> None:
        self.client.delete(self.name, ids=keys)

    def count(self) -> int:
        return int(self.client.query(self.name, filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"])

    def drop(self) -> None:
        """With the alias before it."""
        self.client.drop_alias(self.alias)
        self.client.drop_collection(self.name)

    def restore(self, rows: list[Row]) -> None:
        """Exactly these rows."""
        self.client.delete(self.name, filter='id != ""')
        self._await(0)
        self.insert(rows)
        self._await(len(rows))
        if self.rows() != rows:
            raise RuntimeError(f"'{self.name}' could not be restored")

    def _await(self, rows: int) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := self.count()) != rows:
            if time.monotonic() > deadline:
                raise RuntimeError(f"'{self.name}' holds {found} rows, and not {rows}")
            time.sleep(0.2)


def _plain(value: Any) -> Any:
    """pymilvus gives arrays as protobuf's own lists."""
    return list(value) if not isinstance(value, str | bytes | dict) and hasattr(value, "__iter__") else value


@contextmanager
def opened(job: dict[str, Any]) -> Iterator[Raw]:
    """The collection of a job; a Milvus Lite file is let go of in the end."""
    uri, alias = job["target"]["uri"], job["target"]["collection"]
    with client_of(uri) as client:
        name = client.describe_alias(alias)["collection_name"]
        client.load_collection(name)
        yield Raw(client=client, alias=alias, name=name, lite=uri.endswith(".db"))


@contextmanager
def client_of(uri: str) -> Iterator[MilvusClient]:
    """A connection of its own; a Milvus Lite file is let go of."""
    client = MilvusClient(uri)
    try:
        yield client
    finally:
        client.close()
        if uri.endswith(".db"):
            from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415

            server_manager_instance.release_server(uri)


def copy_folder(source: Path, target: Path) -> None:
    """In place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
