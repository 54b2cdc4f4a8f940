"""Hosts that sleep for each shard and answer what hosts with eight ranks would: what the driver of a cluster costs, and nothing else."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future
from typing import Any, cast

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.engines.cluster_hosts.cluster import HostLink
from tasks.adapters.engines.host import Host
from tasks.adapters.engines.remote_host import RemoteHost
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_events import ShardLoaded, ShardSealed
from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay, rank_name
from tasks.domain.encoding.encoding_spec import LoadGroup, ShardGroup
from tasks.domain.report.figures import RankWork
from tasks.domain.shards.seal import EncodeStats, Loaded, Part, Seal
from tasks.domain.shards.shard import Shard
from tasks.domain.target.rate_limit import LoadCounts
from tests.builders.engines.fake_engine import ThreadHost

RANKS, PARTS, ROWS = 8, 8, 50_000  # of a host; of a shard
SLEEP_SECONDS = 0.002  # for a shard
FACTS = EncoderFacts(dim=384, max_seq_length=512, precision="bfloat16", device="cuda")


class SleepingHost(RemoteHost):
    """A host whose encoder sleeps."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._one_at_a_time = threading.Lock()

    def load(self, spec: str, seen: int = 0) -> str:
        self._host = cast("Host", _Asleep())
        return self._answer(lambda: {"facts": FACTS.model_dump(mode="json"), "ranks": RANKS}, seen)

    def encode(self, group: str, seen: int, ahead: int | None = None) -> str:
        return self._answer(lambda: self._sleep(ShardGroup.model_validate_json(group)), seen)

    def load_shards(self, group: str, seen: int, rate: float | None, heard: int) -> str:
        return self._answer(lambda: self._load_asleep(LoadGroup.model_validate_json(group)), seen)

    def _load_asleep(self, group: LoadGroup) -> None:
        for shard in group.shards:
            time.sleep(SLEEP_SECONDS)
            self._tell(ShardLoaded(entry=_entry(shard), replaced=False))

    def _sleep(self, group: ShardGroup) -> None:
        with self._one_at_a_time:
            for shard in group.shards:
                time.sleep(SLEEP_SECONDS)
                self._tell(ShardSealed(seal=_seal(shard, group), encoded=ROWS, adopted=0))


class _Asleep:
    """As much of a `Host` as is asked of one that sleeps."""

    loading = LoadCounts()

    def progress(self) -> EncodingProgress:
        ranks = range(RANKS)
        return EncodingProgress(
            rows=ROWS,
            tokens=ROWS,
            seconds=1.0,
            rows_by_rank=tuple(ROWS for _ in ranks),
            work=tuple(RankWork(rank=rank, parts=1, rows=ROWS, tokens=ROWS, bytes=ROWS, encode_seconds=1.0) for rank in ranks),
            newest={rank_name(rank): "rows/0000000.parquet" for rank in ranks},
            under_way=tuple(UnderWay(rank=rank, shard="rows/0000000.parquet", first=0, stop=ROWS, done=1) for rank in ranks),
            memory={f"rank {rank}": 2**30 for rank in ranks},
        )

    def close(self) -> None:
        """Nothing runs."""


def _entry(shard: Shard) -> Loaded:
    told = {"group": shard.group, "place": shard.place, "files": 1, "rows": ROWS, "seal": shard.id, "run": shard.id}
    return Loaded(shard=shard.id, seconds=2.2, loaded_at=utc_now(), **told)


def _seal(shard: Shard, group: ShardGroup) -> Seal:
    lengths = dict.fromkeys(range(32, 544, 32), ROWS // PARTS // 16)
    stats = EncodeStats(tokens=ROWS, tokenize_seconds=1.0, encode_seconds=3.1, write_seconds=0.2, lengths=lengths, backend="torch")
    step = ROWS // PARTS
    parts = tuple(
        Part(
            key=f"corpus/{group.record.identity.fingerprint}/shards/{shard.id}/{group.attempt}-{first:09}.parquet",
            first=first,
            stop=first + step,
            rows=step,
            bytes=step * 1_600,
            sha256=hashlib.sha256(shard.id.encode()).hexdigest(),
            stats=stats,
        )
        for first in range(0, ROWS, step)
    )
    return Seal(
        shard=shard.id,
        name=shard.name,
        group=shard.group,
        run=group.attempt,
        attempt=group.attempt,
        dim=FACTS.dim,
        source_rows=ROWS,
        embedded=ROWS,
        duplicates=0,
        quarantined=(),
        parts=parts,
        seconds=3.1,
        sealed_at=utc_now(),
    )


class SleepingThreads(ThreadHost):
    """One in threads of this process."""

    def call(self, method: str, *arguments: object) -> Future[str]:
        self.host = self.host or SleepingHost(alone=False)
        return super().call(method, *arguments)


class Counted:
    """A link that counts the bytes of calls and answers, without the reports of a host that is only looked at."""

    def __init__(self, link: HostLink) -> None:
        self._link = link
        self.sent = self.received = self.looks = self.looked = 0

    def call(self, method: str, *arguments: object) -> Future[str]:
        answer = self._link.call(method, *arguments)
        self.sent += sum(len(each) for each in arguments if isinstance(each, str))

        def count(future: Future[str]) -> None:
            if not future.exception():
                self.received += len(future.result())
                if method == "report":
                    self.looks, self.looked = self.looks + 1, self.looked + len(future.result())

        answer.add_done_callback(count)
        return answer

    def end(self) -> None:
        self._link.end()
