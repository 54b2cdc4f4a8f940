"""What can be done to a collection behind Kitestring's back, each by pymilvus alone.

Each says how many rows it made wrong in a way that no count of a shard, no total and no alias shows, so that a sample has to
fall on one of them; `SHOWN` where one of those shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.raw import Raw, Row

SHOWN = 0
ALL = 1 << 30
FOREIGN = "f" * 32
Spoil = Callable[[Raw], int]
Where = Literal["lite", "server"]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One of them. `apart`: it leaves no collection that could be mended for the next one."""

    name: str
    spoil: Spoil
    on: tuple[Where, ...] = ("lite", "server")
    apart: bool = False


# ---- rows that do not belong ----


def foreign(count: int, shard: str | None = FOREIGN) -> Spoil:
    """Rows of keys that nobody sealed; `shard`: theirs, or None for one that is known."""

    def spoil(raw: Raw) -> int:
        rows = raw.rows()
        made = [{**rows[n % len(rows)], "id": f"strange-{n}", "shard": shard or rows[0]["shard"]} for n in range(count)]
        raw.insert(made)
        return SHOWN

    return spoil


def doubled(count: int, shard: Literal["same", "another", "unknown"]) -> Spoil:
    """Raw inserts of keys that are there: a server keeps both."""

    def spoil(raw: Raw) -> int:
        rows = raw.rows()
        other = {row["shard"]: next(r["shard"] for r in rows if r["shard"] != row["shard"]) for row in rows[:count]}
        due = {"same": lambda row: row["shard"], "another": lambda row: other[row["shard"]], "unknown": lambda _: FOREIGN}[shard]
        raw.insert([{**row, "shard": due(row)} for row in rows[:count]])
        return SHOWN

    return spoil


def doubled_for_another(raw: Raw) -> int:
    """A key twice, and another one of its shard is gone: every count is right."""
    first, second = _two_of_a_shard(raw)
    raw.delete([second["id"]])
    raw.insert([first])
    return 1


def exchanged_key(raw: Raw) -> int:
    """A key that no seal has comes in, and one leaves: every count is right."""
    first, _ = _two_of_a_shard(raw)
    raw.delete([first["id"]])
    raw.upsert([{**first, "id": "strange"}])
    return 1


# ---- rows that are gone, or elsewhere ----


def deleted(count: int) -> Spoil:
    """Some rows go."""

    def spoil(raw: Raw) -> int:
        raw.delete([row["id"] for row in raw.rows()[:count]])
        return SHOWN

    return spoil


def deleted_shard(raw: Raw) -> int:
    """All rows of a shard go."""
    rows = raw.rows()
    raw.delete([row["id"] for row in rows if row["shard"] == rows[0]["shard"]])
    return SHOWN


def moved(raw: Raw) -> int:
    """A row carries another shard."""
    rows = raw.rows()
    raw.upsert([{**rows[0], "shard": next(row["shard"] for row in rows if row["shard"] != rows[0]["shard"])}])
    return SHOWN


def traded_shards(raw: Raw) -> int:
    """Two rows carry each other's shard: every count is right."""
    rows = raw.rows()
    other = next(row for row in rows if row["shard"] != rows[0]["shard"])
    raw.upsert([{**rows[0], "shard": other["shard"]}, {**other, "shard": rows[0]["shard"]}])
    return 2


# ---- rows that say something else ----


def changed(field: str, count: int, change: Callable[[Any], Any]) -> Spoil:
    """A field of some rows has another value."""

    def spoil(raw: Raw) -> int:
        rows = [row for row in raw.rows() if change(row[field]) != row[field]][:count]
        raw.upsert([{**row, field: change(row[field])} for row in rows])
        return len(rows)

    return spoil


def swapped(field: str) -> Spoil:
    """Two rows of a shard have each other's."""

    def spoil(raw: Raw) -> int:
        first, second = _two_of_a_shard(raw)
        raw.upsert([{**first, field: second[field]}, {**second, field: first[field]}])
        return 2

    return spoil


def _two_of_a_shard(raw: Raw) -> tuple[Row, Row]:
    rows = raw.rows()
    first, second, *_ = [row for row in rows if row["shard"] == rows[0]["shard"]]
    return first, second


def rotated(degrees: float) -> Callable[[list[float]], list[float]]:
    """In the plane of the first two directions that make a whole turn of it: the length stays."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def turn(vector: list[float]) -> list[float]:
        pairs = zip(vector[::2], vector[1::2], strict=True)
        return [value for x, y in pairs for value in (x * cos - y * sin, x * sin + y * cos)]

    return turn


def scaled(by: float) -> Callable[[list[float]], list[float]]:
    return lambda vector: [value * by for value in vector]


# ---- the collection itself ----


def alias_elsewhere(raw: Raw) -> int:
    """Searches are led to a collection of the same form with other rows."""
    other = _twin(raw, f"{raw.name}_decoy", lambda rows: rows[:10])
    raw.client.alter_alias(other, raw.alias)
    return SHOWN


def alias_gone(raw: Raw) -> int:
    """Searches find nothing at all."""
    raw.client.drop_alias(raw.alias)
    return SHOWN


def remade(keep: Callable[[list[Row]], list[Row]]) -> Spoil:
    """The collection was dropped and made anew with its name and its description, and holds something else."""

    def spoil(raw: Raw) -> int:
        rows = raw.rows()
        spare = _twin(raw, f"{raw.name}_spare", lambda _: [])
        raw.drop()
        made = _twin(Raw(client=raw.client, alias=raw.alias, name=spare, lite=raw.lite), raw.name, lambda _: keep(rows))
        raw.client.create_alias(made, raw.alias)
        raw.client.drop_collection(spare)
        return SHOWN

    return spoil


def _twin(raw: Raw, name: str, rows: Callable[[list[Row]], list[Row]]) -> str:
    """A collection made as another one was, from what the server says of it."""
    from pymilvus import CollectionSchema  # noqa: PLC0415 - only here

    told = raw.client.describe_collection(raw.name)
    index = raw.client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
    properties = {"properties": told["properties"]} if raw.lite and told.get("properties") else {}
    schema = CollectionSchema.construct_from_dict({**told, "enable_dynamic_field": False})
    raw.client.create_collection(name, schema=schema, index_params=index, consistency_level="Bounded", **properties)
    Raw(client=raw.client, alias=raw.alias, name=name, lite=raw.lite).upsert(rows(raw.rows()))
    return name


# ---- all of them ----


def _of(field: str, change: Callable[[Any], Any], counts: tuple[int, ...]) -> list[Corruption]:
    words = {1: "of a row", 10: "of ten rows", ALL: "of all rows"}
    return [Corruption(name=f"{field} changed {words[count]}", spoil=changed(field, count, change)) for count in counts]


BOTH: list[Corruption] = [
    Corruption(name="a foreign row, unknown shard", spoil=foreign(1)),
    Corruption(name="as many foreign rows as there are, unknown shard", spoil=lambda raw: foreign(raw.count())(raw)),
    Corruption(name="a foreign row, known shard", spoil=foreign(1, None)),
    Corruption(name="a key exchanged for a foreign one", spoil=exchanged_key),
    Corruption(name="50 keys doubled, another shard", spoil=doubled(50, "another"), on=("server",)),
    Corruption(name="50 keys doubled, same shard", spoil=doubled(50, "same"), on=("server",)),
    Corruption(name="a key doubled, unknown shard", spoil=doubled(1, "unknown"), on=("server",)),
    Corruption(name="a key doubled, another one gone", spoil=doubled_for_another, on=("server",)),
    Corruption(name="a row deleted", spoil=deleted(1)),
    Corruption(name="ten rows deleted", spoil=deleted(10)),
    Corruption(name="a shard deleted", spoil=deleted_shard),
    Corruption(name="all rows deleted", spoil=deleted(ALL)),
    Corruption(name="a row moved to another shard", spoil=moved),
    Corruption(name="two rows traded their shards", spoil=traded_shards),
    Corruption(name="vectors of two rows swapped", spoil=swapped("vector")),
    Corruption(name="texts of two rows swapped", spoil=swapped("text")),
    Corruption(name="a vector zeroed", spoil=changed("vector", 1, scaled(0.0))),
    Corruption(name="all vectors zeroed", spoil=changed("vector", ALL, scaled(0.0))),
    Corruption(name="a vector turned by 3 degrees", spoil=changed("vector", 1, rotated(3))),
    Corruption(name="all vectors turned by 3 degrees", spoil=changed("vector", ALL, rotated(3))),
    Corruption(name="a vector's sign flipped", spoil=changed("vector", 1, scaled(-1.0))),
    Corruption(name="all vectors' signs flipped", spoil=changed("vector", ALL, scaled(-1.0))),
    Corruption(name="a vector one hundredth longer", spoil=changed("vector", 1, scaled(1.01))),
    *_of("n", lambda value: value + 1, (1, 10, ALL)),
    *_of("score", lambda value: value * 1.001 + 1e-3, (1,)),
    *_of("live", lambda value: not value, (1, ALL)),
    *_of("lang", lambda value: f"{value}x", (1, ALL)),
    *_of("tags", lambda value: [*value, "more"], (1, ALL)),
    Corruption(name="tags of a row in another order", spoil=changed("tags", 1, lambda value: value[::-1])),
    *_of("facts", lambda value: {**value, "at": value["at"] + 1}, (1, 10, ALL)),
    Corruption(name="text emptied of a row", spoil=changed("text", 1, lambda _: "")),
    Corruption(name="text emptied of all rows", spoil=changed("text", ALL, lambda _: "")),
    Corruption(name="text of a row with a blank more", spoil=changed("text", 1, lambda value: f"{value} ")),
    Corruption(name="n of a row is null", spoil=changed("n", 1, lambda _: None), on=("lite",)),
    Corruption(name="text of all rows is null", spoil=changed("text", ALL, lambda _: None), on=("lite",)),
    Corruption(name="alias led to another collection", spoil=alias_elsewhere, apart=True),
    Corruption(name="alias gone", spoil=alias_gone, apart=True),
    Corruption(name="collection made anew, five rows fewer", spoil=remade(lambda rows: rows[5:]), apart=True),
    Corruption(name="collection made anew, empty", spoil=remade(lambda _: []), apart=True),
]
# In a collection three times as large as a sample: what only the sample can see is seen as often as it promises.
LARGE = (
    "as many foreign rows as there are, unknown shard",
    "a foreign row, unknown shard",
    "50 keys doubled, another shard",
    "a vector zeroed",
    "vectors of two rows swapped",
    "n changed of a row",
    "n changed of ten rows",
    "n changed of all rows",
    "facts changed of ten rows",
    "text emptied of all rows",
    "a key exchanged for a foreign one",
)
# On histories of their own: what has no seal in the plan is not outside the proof.
RETAINED: list[Corruption] = [
    Corruption(name="retained rows, n changed of one", spoil=changed("n", 1, lambda value: value + 1 if value >= 2_000 else value)),
    Corruption(name="retained rows, one deleted", spoil=lambda raw: deleted_of(raw, 2_000)),
]
NULLS: list[Corruption] = [
    Corruption(name="null in n becomes 0", spoil=changed("n", 1, lambda value: 0 if value is None else value), on=("lite",)),
    Corruption(name="null in facts becomes {}", spoil=changed("facts", 1, lambda value: {} if value is None else value), on=("lite",)),
]
CUT: list[Corruption] = [
    Corruption(name="a cut text cut once more", spoil=changed("text", 1, lambda value: value[:9] if len(value) > 30_000 else value)),
]


def deleted_of(raw: Raw, first: int) -> int:
    """A row whose number is at least this goes."""
    raw.delete([next(row["id"] for row in raw.rows() if row["n"] >= first)])
    return SHOWN
