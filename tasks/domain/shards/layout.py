"""Where everything is in the checkpoint store. Keys are relative to the store's root.

{corpus}/encoders/{declared}.json            what `precision: auto` was resolved to, once and for all
{corpus}/encoders/{declared}-{machine}.json  how many tokens a batch holds best there, and what runs the model
{corpus}/encoders/{declared}-{machine}-rates.json      how fast runs and dry runs were on such a machine
{corpus}/promotions/{alias}/{n}.json         each move of the alias, written before it is made
{corpus}/live/{run}.json                     how far a run is, while it goes and until the next one ends
{corpus}/damaged/{run}/{key}                 a document that could not be read, as a run found it under that key
{corpus}/{fingerprint}/encoder.json
{corpus}/{fingerprint}/columns/{columns}.json         what metadata columns were found to be: types and names of their fields
{corpus}/{fingerprint}/sampled.json          what the latest sample of the files found those columns to hold
{corpus}/{fingerprint}/shards/{shard}/{attempt}/part-{first}-{stop}.parquet
{corpus}/{fingerprint}/shards/{shard}/{attempt}/digests.parquet   what each row that was read is made of
{corpus}/{fingerprint}/shards/{shard}/seal.json
{corpus}/{fingerprint}/shards/{shard}/amend-{n}.json
{corpus}/{fingerprint}/shards/{shard}/keys-{seal}.parquet         the seal's keys, each with a hash of its vector
{corpus}/{fingerprint}/condemned/{sweep}.json          what a `gc --delete` is removing at this moment
{corpus}/{fingerprint}/owners/{target}.json            which shard owns a key that comes in several
{corpus}/{fingerprint}/owners/{target}/{n}.parquet     the rows that others lost by that
{corpus}/{fingerprint}/targets/{address}.json          which collection is at an address: the name of its ledger
{corpus}/{fingerprint}/loads/{target}/{shard}.json
{corpus}/{fingerprint}/loads/{target}/{shard}.intent.json   that it is about to be loaded, or must not be relied on
{corpus}/{fingerprint}/loads/{target}/roots/{root}.json     a place that rows of the collection were read from
{corpus}/{fingerprint}/loads/{target}/verified.json
{corpus}/{fingerprint}/loads/{target}/import.json       an import that is under way, of an older version
{corpus}/{fingerprint}/imports/{address}/{run}.json     an import that is under way; address: see Plan
{corpus}/{fingerprint}/runs/{run}/report.html, report.json, hosts.json
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.domain.digest import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The keys of one corpus under one encoder."""

    corpus: str
    fingerprint: str

    @property
    def root(self) -> str:
        return f"{self.corpus}/{self.fingerprint}"

    @property
    def encoder(self) -> str:
        return f"{self.root}/encoder.json"

    @property
    def sampled(self) -> str:
        return f"{self.root}/sampled.json"

    @property
    def all_columns(self) -> str:
        return f"{self.root}/columns/"

    def columns(self, names: Iterable[str]) -> str:
        listed = "\n".join(sorted(names))
        return f"{self.all_columns}{digest(listed)}.json"

    @property
    def shards(self) -> str:
        return f"{self.root}/shards/"

    def shard(self, shard: str) -> str:
        return f"{self.shards}{shard}/"

    def part(self, shard: str, attempt: str, first: int, stop: int) -> str:
        return f"{self.shard(shard)}{attempt}/part-{first:09d}-{stop:09d}.parquet"

    def digests(self, shard: str, attempt: str) -> str:
        return f"{self.shard(shard)}{attempt}/digests.parquet"

    def seal(self, shard: str) -> str:
        return f"{self.shard(shard)}seal.json"

    def amendment(self, shard: str, number: int) -> str:
        return f"{self.shard(shard)}amend-{number:04d}.json"

    @property
    def all_loads(self) -> str:
        return f"{self.root}/loads/"

    @property
    def marks(self) -> str:
        return f"{self.root}/condemned/"

    def mark(self, sweep: str) -> str:
        return f"{self.marks}{sweep}.json"

    def loads(self, target: str) -> str:
        return f"{self.all_loads}{target}/"

    def loaded(self, target: str, shard: str) -> str:
        return f"{self.loads(target)}{shard}.json"

    def intent(self, target: str, shard: str) -> str:
        return f"{self.loads(target)}{shard}.intent.json"

    def roots(self, target: str) -> str:
        return f"{self.loads(target)}roots/"

    def root_of(self, target: str, root: str) -> str:
        return f"{self.roots(target)}{digest(root)}.json"

    def ledger_at(self, address: str) -> str:
        return f"{self.root}/targets/{address}.json"

    def verified(self, target: str) -> str:
        return f"{self.loads(target)}verified.json"

    def attempt(self, target: str) -> str:
        return f"{self.loads(target)}import.json"

    def imports(self, address: str) -> str:
        return f"{self.root}/imports/{address}/"

    def importing(self, address: str, run: str) -> str:
        return f"{self.imports(address)}{run}.json"

    def keys(self, shard: str, seal: str) -> str:
        return f"{self.shard(shard)}keys-{seal}.parquet"

    def owners(self, target: str) -> str:
        return f"{self.root}/owners/{target}.json"

    def lost(self, target: str, settled: str) -> str:
        return f"{self.root}/owners/{target}/{settled}.parquet"

    def run(self, run: str, name: str) -> str:
        return f"{self.root}/runs/{run}/{name}"


def encoder_pins(corpus: str) -> str:
    """What the keys of all that is settled or measured of a corpus' encoders begin with."""
    return f"{corpus}/encoders/"


def encoder_pin(corpus: str, declared: str) -> str:
    """Key of the object that says what a declared encoder was resolved to."""
    return f"{encoder_pins(corpus)}{declared}.json"


def promotion(corpus: str, alias: str, number: int) -> str:
    """Key of the record of an alias move, by its number."""
    return f"{promotions(corpus)}{alias}/{number:06d}.json"


def promotions(corpus: str) -> str:
    """What the keys of all moves of a corpus' aliases begin with."""
    return f"{corpus}/promotions/"


def live_runs(corpus: str) -> str:
    """What the keys of runs that are under way begin with."""
    return f"{corpus}/live/"


def live_run(corpus: str, run: str) -> str:
    """Where a run tells others how far it is."""
    return f"{live_runs(corpus)}{run}.json"


def damaged(corpus: str, run: str, key: str) -> str:
    """Where a run keeps an object that it found damaged under a key."""
    return f"{corpus}/damaged/{run}/{key.removeprefix(f'{corpus}/')}"


RETRY = "retry-"  # what the attempts of `quarantine retry` begin with: their parts hold single rows, not whole ranges
_PART = re.compile(r"/(?P<attempt>[^/]+)/part-(?P<first>\d+)-(?P<stop>\d+)\.parquet$")


_DIGESTS = re.compile(r"/(?P<attempt>[^/]+)/digests\.parquet$")
_KEYS = re.compile(r"/(shards/[^/]+/keys-[^/]+|owners/[^/]+/[^/]+)\.parquet$")


def writer_of(key: str) -> str | None:
    """What may still be at work on an object that something else has to name: the attempt of a part or of digests; a file of keys stands
    for itself.

    None for the key of an object that names others, or needs no name.
    """
    found = _PART.search(key) or _DIGESTS.search(key)
    return found["attempt"] if found else key if _KEYS.search(key) else None


def part_rows(key: str) -> tuple[int, int] | None:
    """Source rows [first, stop) of a part, from its key; None for another object's key."""
    found = _PART.search(key)
    return (int(found["first"]), int(found["stop"])) if found else None
