"""Hosts of a cluster whose model is served: each asks the server by itself, and no more requests are in flight than one host may have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat, request_share
from tasks.adapters.engines.far_spec import spec_for_afar
from tasks.adapters.engines.ray_engine import open_ray
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.served import server_token
from tasks.adapters.sources.registry import open_source
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.shard import name_shard
from tasks.worker.base import unit_length
from tests.builders.engines.embedding_server import TOKEN, EmbeddingServer, embedding_server
from tests.builders.engines.fake_engine import ThreadCluster, ThreadHost
from tests.builders.kitestring import make_job, text_of, write_rows
from tests.builders.runs import vectors_in
from tests.servers.ray import RayServer

FILES, ROWS, REQUESTS = 8, 24, 4
SLOW = 0.05  # seconds of a request


@dataclass
class Served:
    """A server of embeddings, and a job of some files that it is to embed."""

    server: EmbeddingServer
    folder: Path

    def spec(self, *, token_block: str | None = None, **settings: object) -> EncodingSpec:
        encoder = self.server.settings("tei", requests=REQUESTS, token_block=token_block)
        job = parse_job(make_job(self.folder, self.folder, encoder=encoder, compute__unsaved_rows=ROWS // 2, **settings))
        weights = locate_model(job.encoder).weights
        return EncodingSpec(run="20261126T080000000-abcdef", job=job, fields=(), weights=weights, declared="d" * 32)

    def encode(self, fleet: Fleet, spec: EncodingSpec) -> None:
        """All of it, once both hosts can begin; no row is another one's."""
        facts = fleet.facts()
        identity = EncoderIdentity(kind="k", model="m", revision=None, weights=spec.weights, preprocessing={}, precision=facts.precision)
        spans = open_source(spec.job.source, rows=spec.job.shards.rows).spans()
        shards = tuple(name_shard(span, rows_as={}, fingerprint=identity.fingerprint) for span in spans)
        deadline = time.monotonic() + 120
        while sum(host.moments[-1].state == "at work" for host in fleet.progress().hosts) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.server.most_together = 0
        self.server.faults = [("slow", (SLOW,))] * 1_000
        fleet.encode(ShardGroup(shards=shards, record=EncoderRecord(identity=identity, facts=facts), attempt=spec.run))
        found = vectors_in(self.folder / "checkpoint")
        expected = unit_length(self.server.vectors([text_of(int(key.removeprefix("row-"))) for key in found]))
        assert sorted(found) == sorted(f"row-{row}" for row in range(FILES * ROWS))
        np.testing.assert_allclose(np.array(list(found.values())), expected, atol=1e-6)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for number in range(FILES):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * ROWS, (number + 1) * ROWS)
    with embedding_server() as server:
        server.most_rows = 3
        yield Served(server, tmp_path)


def test_requests_of_all_hosts_together_are_bounded_and_no_call_holds_the_token(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCODER_TOKEN", TOKEN)
    monkeypatch.setattr(server_token, "_readers", [])  # as on a machine without Prefect
    served.server.token = TOKEN
    spec, cluster = served.spec(token_block="block-of-the-flow"), ThreadCluster()
    fleet = Fleet(lambda: cluster, spec, tell=lambda _: None)
    try:
        served.encode(fleet, spec)
        assert served.server.most_together == REQUESTS
        assert all(host.rows for host in fleet.progress().hosts)
    finally:
        fleet.close()
    sent = [call for host in cluster.there for call in host.calls]
    assert {"load", "encode", "report"} <= set(sent)
    assert TOKEN not in str([host.arguments for host in cluster.there])


def test_actors_of_ray_ask_the_server_and_share_the_requests(served: Served, ray_server: RayServer, tmp_path: Path) -> None:
    spec = served.spec(compute__engine=ray_server.engine())
    fleet = open_ray(spec, scratch=tmp_path, tell=lambda _: None)
    try:
        served.encode(fleet, spec_for_afar(spec, shared=True))
        assert 1 < served.server.most_together <= REQUESTS
        assert [bool(host.rows) for host in fleet.progress().hosts] == [True, True]
    finally:
        fleet.close()


@pytest.mark.parametrize(
    ("most", "states", "shares"), [(64, "nr", [32, 32]), (5, "rrx", [3, 2, 0]), (2, "rrr", [1, 1, 1]), (None, "r", [0])]
)
def test_shares_add_up_to_what_the_job_allows(most: int | None, states: str, shares: list[int]) -> None:
    known = {"n": "new", "r": "ready", "x": "barred"}
    seats = [HostSeat(ThreadHost(), state=known[state]) for state in states]  # type: ignore[arg-type]
    assert [0 if seat.state == "barred" else request_share(most, seat, seats) or 0 for seat in seats] == shares
