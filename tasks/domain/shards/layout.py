"""The keys of the checkpoint store, relative to its root.

{corpus}/encoders/{declared}.json            the pinned encoder, such as the precision that `precision: auto` was resolved to
{corpus}/encoders/{declared}-{machine}.json  the best batch size and backend on such a machine
{corpus}/encoders/{declared}-{machine}-rates.json      rates of runs and dry runs on such a machine
{corpus}/promotions/{alias}/{n}.json         each move of the alias, written before it is made
{corpus}/live/{run}.json                     the progress of a run, until the next run ends
{corpus}/damaged/{run}/{key}                 an unreadable document that a run found under that key
{corpus}/{fingerprint}/encoder.json
{corpus}/{fingerprint}/columns/{columns}.json         field types and names of the metadata columns
{corpus}/{fingerprint}/quality/{questions}.json       retrieval quality of vectors in 8 bits beside float32, on a gate's questions
{corpus}/{fingerprint}/sampled.json          the values of those columns in the latest sample of the files
{corpus}/{fingerprint}/shards/{shard}/{attempt}/part-{first}-{stop}.parquet
{corpus}/{fingerprint}/shards/{shard}/{attempt}/digests.parquet   content digests of the rows
{corpus}/{fingerprint}/shards/{shard}/seal.json
{corpus}/{fingerprint}/shards/{shard}/amend-{n}.json
{corpus}/{fingerprint}/shards/{shard}/keys-{seal}.parquet         the seal's keys, each with a hash of its vector
{corpus}/{fingerprint}/condemned/{sweep}.json          objects that a `gc --delete` is removing now
{corpus}/{fingerprint}/owners/{target}.json            owners of keys that occur in several shards
{corpus}/{fingerprint}/owners/{target}/{n}.parquet     the rows that other shards lost to them
{corpus}/{fingerprint}/places/first.json              the roots that are in no shard's id
{corpus}/{fingerprint}/places/{root}.json              the root that a moved root is known as
{corpus}/{fingerprint}/targets/{address}.json          the ledger's name of the collection at an address
{corpus}/{fingerprint}/loads/{target}/{shard}.json
{corpus}/{fingerprint}/loads/{target}/{shard}.intent.json   the shard is being loaded, or must be loaded again
{corpus}/{fingerprint}/loads/{target}/roots/{root}.json     a root from which rows of the collection were read
{corpus}/{fingerprint}/loads/{target}/verified.json
{corpus}/{fingerprint}/loads/{target}/import.json       an import in progress, of an older version
{corpus}/{fingerprint}/imports/{address}/{run}.json     an import in progress; address: see Plan
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

    def quality(self, questions: str) -> str:
        return f"{self.root}/quality/{questions}.json"

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

    @property
    def first_roots(self) -> str:
        return f"{self.root}/places/first.json"

    def place(self, root: str) -> str:
        return f"{self.root}/places/{digest(root)}.json"

    @property
    def all_ledgers(self) -> str:
        return f"{self.root}/targets/"

    def ledger_at(self, address: str) -> str:
        return f"{self.all_ledgers}{address}.json"

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
    """Return the key prefix of a corpus' pinned encoders and their measurements."""
    return f"{corpus}/encoders/"


def encoder_pin(corpus: str, declared: str) -> str:
    """Return the key of a declared encoder's pin."""
    return f"{encoder_pins(corpus)}{declared}.json"


def promotion(corpus: str, alias: str, number: int) -> str:
    """Return the key of the record of an alias move, by its number."""
    return f"{promotions(corpus)}{alias}/{number:06d}.json"


def promotions(corpus: str) -> str:
    """Return the key prefix of the moves of a corpus' aliases."""
    return f"{corpus}/promotions/"


def live_runs(corpus: str) -> str:
    """Return the key prefix of the progress of runs."""
    return f"{corpus}/live/"


def live_run(corpus: str, run: str) -> str:
    """Return the key of a run's progress."""
    return f"{live_runs(corpus)}{run}.json"


def damaged(corpus: str, run: str, key: str) -> str:
    """Return the key to which a run moves a damaged object."""
    return f"{corpus}/damaged/{run}/{key.removeprefix(f'{corpus}/')}"


_KEY = re.compile(
    r"[^/]+/(encoders/[0-9a-f]{32}[^/]*\.json|promotions/[^/]+/\d{6}\.json|live/[^/]+\.json|damaged/[^/]+/.+"
    r"|[0-9a-f]{32}/((encoder|sampled)\.json|(columns|quality|shards|condemned|owners|places|targets|loads|imports|runs)/.+))"
)


def is_layout_key(key: str) -> bool:
    """Whether a key matches this layout, for any corpus and encoder."""
    return _KEY.fullmatch(key) is not None


RETRY = "retry-"  # prefix of the attempts of `quarantine retry`: their parts hold single rows, not whole ranges
_PART = re.compile(r"/(?P<attempt>[^/]+)/part-(?P<first>\d+)-(?P<stop>\d+)\.parquet$")


_DIGESTS = re.compile(r"/(?P<attempt>[^/]+)/digests\.parquet$")
_KEYS = re.compile(r"/(shards/[^/]+/keys-[^/]+|owners/[^/]+/[^/]+)\.parquet$")


def writer_of(key: str) -> str | None:
    """Return the writer of an object that must be referenced to be kept: the attempt of a part or of digests, a file of keys itself.

    None for other objects, which need no reference.
    """
    match = _PART.search(key) or _DIGESTS.search(key)
    return match["attempt"] if match else key if _KEYS.search(key) else None


def part_rows(key: str) -> tuple[int, int] | None:
    """Parse the source rows [first, stop) of a part from its key; None if the key is not a part's."""
    match = _PART.search(key)
    return (int(match["first"]), int(match["stop"])) if match else None
