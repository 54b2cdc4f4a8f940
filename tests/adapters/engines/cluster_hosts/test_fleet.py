"""Hosts that are lost, fall silent, leave, or are not what the run needs: threads stand for them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.engines.cluster_hosts import fleet_driver, host_seat, settling
from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.far_spec import spec_for_afar
from tasks.adapters.engines.remote_host import RemoteHost, own_identity
from tasks.adapters.models.model_files import LocatedModel, locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.sources.registry import open_source
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardSealed
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.encoding.host_messages import HostAnswer, HostIdentity, Refusal
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.shard import Shard, name_shard
from tests.builders.engines import hash_encoders
from tests.builders.engines.fake_engine import ThreadCluster, ThreadHost
from tests.builders.engines.hash_encoders import by_hash
from tests.builders.kitestring import make_job, write_rows

FILES, ROWS = 12, 40
PIECES = 2  # of a file
KIND = "sentence-transformers"


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> EncodingSpec:
    monkeypatch.setitem(ENCODERS.known, KIND, by_hash(KIND))
    monkeypatch.setattr(fleet_driver, "RETRY_SECONDS", 0.05)
    job = parse_job(make_job(tmp_path, tiny_model, compute__unsaved_rows=2 * ROWS // PIECES))
    for number in range(FILES):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * ROWS, (number + 1) * ROWS)
    return EncodingSpec(run="20261126T080000000-abcdef", job=job, fields=(), weights=locate_model(job.encoder).weights, declared="d" * 32)


class Work:
    """A fleet with a group to do."""

    def __init__(self, spec: EncodingSpec, *hosts: ThreadHost, silence_seconds: float = 30) -> None:
        self.spec, self.cluster, self.told = spec, ThreadCluster(*hosts), list[EncodingEvent]()
        self.fleet = Fleet(lambda: self.cluster, spec, tell=self.told.append, silence_seconds=silence_seconds)
        self.ended: Future[None] = Future()

    def begin(self) -> None:
        """Encode every shard, in a thread."""

        def encode() -> None:
            try:
                self.fleet.encode(self.group())
            except Exception as error:  # noqa: BLE001 - raised where it is asked
                self.ended.set_exception(error)
            else:
                self.ended.set_result(None)

        threading.Thread(target=encode, daemon=True).start()

    def group(self) -> ShardGroup:
        facts = self.fleet.facts()
        identity = EncoderIdentity(
            kind="k", model="m", revision=None, weights=self.spec.weights, preprocessing={}, precision=facts.precision
        )
        spans = open_source(self.spec.job.source, rows=self.spec.job.shards.rows).spans()
        shards = tuple(name_shard(span, rows_as={}, fingerprint=identity.fingerprint) for span in spans)
        return ShardGroup(shards=shards, record=EncoderRecord(identity=identity, facts=facts), attempt=self.spec.run)

    def keys(self, shard: Shard, record: EncoderRecord) -> list[str]:
        checkpoint = Checkpoint(open_store(self.spec.job.checkpoint), self.spec.job.corpus, record.identity.fingerprint)
        seal = checkpoint.read_seal(shard.id)
        assert seal
        return [key for part in seal.parts for key in checkpoint.verified_part(part)["id"].to_pylist()]

    def assert_done_once(self) -> None:
        self.ended.result(timeout=60)
        group = self.group()
        keys = [key for shard in group.shards for key in self.keys(shard, group.record)]
        assert sorted(keys) == sorted(f"row-{row}" for row in range(FILES * ROWS))
        sealed = [event for event in self.told if isinstance(event, ShardSealed)]
        assert sorted(event.seal.shard for event in sealed) == sorted(shard.id for shard in group.shards), "each is told of once"
        assert sum(event.encoded for event in sealed) == FILES * ROWS, "all of it was this run's work"


@pytest.fixture
def work(spec: EncodingSpec) -> Iterator[Callable[..., Work]]:
    made: list[Work] = []

    def make(*hosts: ThreadHost, **settings: float) -> Work:
        made.append(Work(spec, *hosts, **settings))
        return made[-1]

    yield make
    for each in made:
        each.fleet.close()


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Each host encodes one shard, and more only once this is set: no host is so fast that another has nothing to do."""
    vectors, event = hash_encoders.HashEncoders.vectors, threading.Event()
    begun = defaultdict[int, int](int)

    def held(self: hash_encoders.HashEncoders, texts: list[str]) -> object:
        begun[id(self)] += 1
        assert begun[id(self)] <= PIECES or event.wait(60)
        return vectors(self, texts)

    monkeypatch.setattr(hash_encoders.HashEncoders, "vectors", held)
    yield event
    event.set()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_lost_host_had_is_done_by_another_and_it_comes_back(work: Callable[..., Work], go_on: threading.Event) -> None:
    lost = ThreadHost()
    run = work(ThreadHost(), lost)
    run.begin()
    until(lambda: "encode" in lost.calls)
    lost.lose()
    go_on.set()
    run.assert_done_once()
    until(lambda: lost.calls.count("load") > 1)
    assert not run.fleet._left_out
    hosts = {host.host: host for host in run.fleet.progress().hosts}
    gone = hosts[next(seat.name for seat in run.fleet._seats.values() if seat.link is lost)]
    assert [moment.state for moment in gone.moments][:3] == ["loading", "at work", "lost"]
    assert gone.given_back


def test_a_silent_host_loses_its_groups_and_is_ended(work: Callable[..., Work], go_on: threading.Event) -> None:
    silent = ThreadHost()
    run = work(ThreadHost(), silent, silence_seconds=1.5)
    run.begin()
    until(lambda: "encode" in silent.calls)
    silent.silent, before = True, silent.host
    go_on.set()
    run.assert_done_once()
    until(lambda: silent.host is not before)
    assert before
    assert before._closed


def test_a_host_that_waits_until_the_first_has_loaded_is_called_meanwhile(spec: EncodingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody calls closes itself."""
    monkeypatch.setattr(host_seat, "ASK_SECONDS", 0.05)
    loaded, load = threading.Event(), RemoteHost.load
    monkeypatch.setattr(RemoteHost, "load", lambda *given: loaded.wait(60) and load(*given))
    hosts = ThreadHost(), ThreadHost()
    run = Work(precise(spec, "auto"), *hosts)
    run.begin()
    until(lambda: all(host.calls.count("report") > 3 for host in hosts))
    assert sum(host.calls.count("load") for host in hosts) == 1
    loaded.set()
    run.assert_done_once()
    run.fleet.close()


def precise(spec: EncodingSpec, precision: str) -> EncodingSpec:
    return spec.model_copy(
        update={"job": spec.job.model_copy(update={"encoder": spec.job.encoder.model_copy(update={"precision": precision})})}
    )


def test_hosts_whose_precision_the_job_says_load_side_by_side(work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = threading.Event(), RemoteHost.load
    monkeypatch.setattr(RemoteHost, "load", lambda *given: loaded.wait(60) and load(*given))
    hosts = ThreadHost(), ThreadHost()
    run = work(*hosts)
    run.begin()
    until(lambda: all("load" in host.calls for host in hosts))
    loaded.set()
    run.assert_done_once()


def test_a_host_that_takes_long_to_settle_the_precision_does_not_keep_others_from_it(
    spec: EncodingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it would have settled otherwise it takes over."""
    monkeypatch.setattr(settling, "PATIENCE_SECONDS", 0.3)
    go_on, loads = threading.Event(), list[str]()

    class Stuck(ThreadHost):
        def call(self, method: str, *arguments: object) -> Future[str]:
            answered = super().call(method, *arguments)
            if method != "load":
                return answered
            loads.append(EncodingSpec.model_validate_json(str(arguments[0])).job.encoder.precision)  # type: ignore[union-attr]
            if len(loads) > 1:
                return answered
            late: Future[str] = Future()
            other = HostAnswer(value={"facts": SETTLED.model_dump(mode="json"), "ranks": 1})
            threading.Thread(target=lambda: late.set_result(go_on.wait(60) and other.model_dump_json()), daemon=True).start()
            return late

    stuck = Stuck()
    run = Work(precise(spec, "auto"), stuck, ThreadHost())
    try:
        run.begin()
        run.assert_done_once()
        go_on.set()
        until(lambda: len(loads) > 1)
        assert loads == ["auto", "float32"]
        until(lambda: all(seat.state == "ready" for seat in run.fleet._seats.values()))
        assert not run.fleet._left_out
    finally:
        run.fleet.close()


def test_a_host_that_joins_in_the_middle_is_used(
    work: Callable[..., Work], go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_driver, "LOOK_SECONDS", 0.2)
    first, late = ThreadHost(), ThreadHost()
    run = work(first)
    run.begin()
    until(lambda: "encode" in first.calls)
    run.cluster.there.append(late)
    until(lambda: "encode" in late.calls)
    go_on.set()
    run.assert_done_once()


def test_a_host_that_will_be_taken_away_finishes_what_it_has_begun_and_gives_back_the_rest(
    work: Callable[..., Work], go_on: threading.Event
) -> None:
    leaving = ThreadHost()
    run = work(ThreadHost(), leaving)
    run.fleet.expect(2 * FILES * ROWS)  # so that takes are large
    run.begin()
    until(lambda: "encode" in leaving.calls)
    assert leaving.host
    threading.Thread(target=leaving.host.leave, daemon=True).start()
    until(lambda: leaving.host and leaving.host._host and leaving.host._host._giving_back)
    go_on.set()
    run.assert_done_once()
    assert run.fleet._division.records[next(seat.name for seat in run.fleet._seats.values() if seat.link is leaving)].given_back
    assert not run.fleet._left_out


def test_hosts_are_let_go_of_when_nothing_is_left_and_called_anew_for_what_comes_after(
    work: Callable[..., Work], go_on: threading.Event
) -> None:
    """A cluster counts an actor's devices as taken for as long as it is there, and loading may go on for hours."""
    go_on.set()
    first, late = ThreadHost(), ThreadHost()
    run = work(first)
    run.begin()
    run.assert_done_once()
    run.fleet.release(wait=True)
    until(lambda: first.host is None)
    run.cluster.there.append(late)
    until(lambda: len(run.fleet._seats) == 2)
    assert "load" not in late.calls, "there is nothing to do"
    assert [host.moments[-1].state for host in run.fleet.progress().hosts] == ["released"]
    run.fleet.encode(run.group())
    assert first.host or late.host
    assert not run.fleet._left_out


def test_a_host_is_told_what_it_may_expect_so_that_its_last_pieces_are_small(work: Callable[..., Work], go_on: threading.Event) -> None:
    told: list[object] = []

    class Told(ThreadHost):
        def call(self, method: str, *arguments: object) -> Future[str]:
            if method == "encode":
                told.append(arguments[2])
            return super().call(method, *arguments)

    go_on.set()
    run = work(Told())
    run.fleet.expect(FILES * ROWS)
    run.begin()
    run.assert_done_once()
    assert told
    assert all(isinstance(rows, int) and 0 < rows <= FILES * ROWS for rows in told)


class OtherHost(ThreadHost):
    """One with other code."""

    def call(self, method: str, *arguments: object) -> Future[str]:
        if method != "identify":
            return super().call(method, *arguments)
        other = own_identity().model_copy(update={"host": "other", "code": "0"})
        answer: Future[str] = Future()
        answer.set_result(HostAnswer(value=other.model_dump(mode="json")).model_dump_json())
        return answer


def test_a_host_with_other_code_is_left_out_by_name_and_alone_it_ends_the_run(work: Callable[..., Work]) -> None:
    run = work(ThreadHost(), OtherHost())
    run.begin()
    run.assert_done_once()
    until(lambda: run.fleet._left_out)
    assert "other code" in run.fleet._left_out["other"]
    with pytest.raises(BadInput, match=r"no host of the cluster is able to encode: 1 were left out; the first: other: its Kitestring"):
        work(OtherHost()).fleet.facts()


class Answering(ThreadHost):
    """One that answers `load` in its own way."""

    def __init__(self, answer: HostAnswer) -> None:
        super().__init__()
        self._answer = answer.model_dump_json()

    def call(self, method: str, *arguments: object) -> Future[str]:
        answered = super().call(method, *arguments)
        if method != "load":
            return answered
        other: Future[str] = Future()
        answered.add_done_callback(lambda _: other.set_result(self._answer))
        return other


SETTLED = EncoderFacts(dim=32, max_seq_length=None, precision="bfloat16", device="cuda")
FLOAT32 = HostAnswer(value={"facts": SETTLED.model_copy(update={"precision": "float32"}).model_dump(mode="json"), "ranks": 1})
REFUSED = HostAnswer(refusal=Refusal(leaf="bad input", text="the model does not run in bfloat16 here"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [(FLOAT32, "its encoder has precision float32, the corpus bfloat16"), (REFUSED, "the model does not run in bfloat16 here")],
)
def test_a_host_that_cannot_do_the_settled_precision_is_left_out_and_float32_is_advised(
    answer: HostAnswer, words: str, spec: EncodingSpec
) -> None:
    identity = EncoderIdentity(kind="k", model="m", revision=None, weights=spec.weights, preprocessing={}, precision="bfloat16")
    pinned = spec.model_copy(update={"pinned": EncoderRecord(identity=identity, facts=SETTLED)})
    fleet = Fleet(lambda: ThreadCluster(Answering(answer)), pinned, tell=lambda _: None)
    try:
        with pytest.raises(BadInput, match=rf"{words}; encoder.precision: float32 works on every host"):
            fleet.facts()
    finally:
        fleet.close()


def test_a_device_that_another_run_holds_on_a_host_is_waited_for_there(
    spec: EncodingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compute.exclusive` holds on each host: its own process takes the lock, and says what it waits for."""
    monkeypatch.undo()  # real encoders
    monkeypatch.setattr(torchrun_encoders, "Devices", partial(Devices, folders=[tmp_path]))
    held = Devices(["cpu"], corpus="another", folders=[tmp_path])
    assert held.take(lambda _: None, lambda: True)
    compute = spec.job.compute.model_copy(update={"exclusive": True, "device": "cpu"})
    exclusive = spec.model_copy(update={"job": spec.job.model_copy(update={"compute": compute})})
    fleet = Fleet(lambda: ThreadCluster(ThreadHost()), exclusive, tell=lambda _: None)
    try:
        fleet.start()
        until(lambda: "the encoder on cpu" in fleet.progress().waits_for)
        assert "for corpus 'another' on host" in fleet.progress().waits_for
    finally:
        fleet.close()
        held.release()


def test_a_host_with_other_weights_is_left_out(work: Callable[..., Work], spec: EncodingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(ThreadHost):
        def call(self, method: str, *arguments: object) -> Future[str]:
            if method == "load":
                other = EncodingSpec.model_validate_json(str(arguments[0])).model_copy(update={"weights": "others"})
                arguments = (other.model_dump_json(), *arguments[1:])
            return super().call(method, *arguments)

    monkeypatch.undo()  # real encoders look at the weights before anything is started
    with pytest.raises(BadInput, match=r"the model files on this machine .* differ from those that the run began with"):
        work(Elsewhere()).fleet.facts()


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"version": "0.0.9"}, "it has Kitestring 0.0.9, the flow"),
        ({"libraries": {**own_identity().libraries, "torch": "1.0"}}, "it has torch 1.0, the flow"),
        ({}, ""),
    ],
)
def test_what_differs_of_a_host_is_named(update: dict[str, object], words: str) -> None:
    other: HostIdentity = own_identity().model_copy(update=update)
    assert other.difference(own_identity()).startswith(words)
    assert bool(words) == bool(other.difference(own_identity()))


def test_a_host_that_nobody_calls_closes_itself(spec: EncodingSpec) -> None:
    host = RemoteHost(silence_seconds=0.4, alone=False)
    assert HostAnswer.model_validate_json(host.load(spec.model_dump_json())).refusal is None
    until(lambda: host._closed)
    answer = HostAnswer.model_validate_json(host.report(0))
    assert answer.report.closed


def test_a_folder_as_checkpoint_or_source_is_refused_unless_it_is_shared(spec: EncodingSpec) -> None:
    with pytest.raises(
        BadInput, match=r"^checkpoint: hosts of compute.engine.kind: local cannot reach the folder .* compute.engine.shared"
    ):
        spec_for_afar(spec, shared=False)
    on_s3 = spec.model_copy(update={"job": spec.job.model_copy(update={"checkpoint": "s3://bucket/prefix"})})
    with pytest.raises(BadInput, match=r"^source.uri: hosts"):
        spec_for_afar(on_s3, shared=False)
    assert spec_for_afar(spec, shared=True) == spec


def test_hosts_fetch_the_commit_of_a_hub_model_that_the_flow_has(spec: EncodingSpec) -> None:
    model = LocatedModel(path="/hub/0a1b", weights=spec.weights, revision="0a1b")
    assert spec_for_afar(spec, shared=True, model=model).job.encoder == spec.job.encoder.model_copy(update={"revision": "0a1b"})
    folder = LocatedModel(path="/models/m", weights=spec.weights, revision=None)
    assert spec_for_afar(spec, shared=True, model=folder) == spec


def test_no_credential_is_in_what_a_host_is_told(spec: EncodingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-in-the-environment")
    monkeypatch.setenv("MILVUS_TOKEN", "hidden-in-the-environment")
    assert "hidden" not in spec_for_afar(spec, shared=True).model_dump_json()
