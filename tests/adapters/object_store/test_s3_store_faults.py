"""What the S3 store does when the server fails, stays silent or answers too late."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import botocore.endpoint
import pytest

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.object_store import s3_store
from tasks.adapters.object_store.registry import open_store, probe_store
from tasks.adapters.object_store.s3_client import connect
from tasks.adapters.object_store.s3_store import S3Store
from tasks.domain.errors import BadInput, OutcomeUnknown, Transient
from tests.servers.faulty_s3 import (
    CUT_SHORT,
    DROPPED_AFTER,
    DROPPED_BEFORE,
    HANGS,
    FaultyS3,
    answers,
    answers_after,
    overtaken_by,
    refuses_keys,
)
from tests.servers.s3 import S3Bucket, free_port

SECRET = "canary/SECRET+key"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the SDK would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=slept.append, time=time.time))
    return slept


def open_patient(bucket: str, *, proven: bool = False, read_seconds: float = 30) -> S3Store:
    slept: list[float] = []
    commits = RetryPolicy(seconds=5, first=1, longest=2, sleep=slept.append, clock=lambda: sum(slept), jitter=lambda: 1.0)
    return S3Store(bucket, connection=connect(proven=proven, tries=4, read_seconds=read_seconds, connect_seconds=2), commits=commits)


@pytest.fixture
def store(faulty_s3: FaultyS3) -> S3Store:
    return open_patient(faulty_s3.bucket.name)


VERBS: dict[str, tuple[str, Callable[[S3Store], object]]] = {
    "read": ("GET", lambda s: s.read("a")),
    "write": ("PUT", lambda s: s.write("a", b"x")),
    "commit": ("PUT", lambda s: s.commit("new", b"x")),
    "list": ("GET", lambda s: [f.key for f in s.list("")]),
    "delete": ("DELETE", lambda s: s.delete("a")),
    "delete many": ("POST", lambda s: s.delete_many(["a", "b"])),
}
PASSING = [
    answers(500, "InternalError"),
    answers(503, "SlowDown"),
    answers(503),
    answers(429, "TooManyRequests"),
    DROPPED_BEFORE,
    DROPPED_AFTER,
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f"{f.does} {f.status or ''} {f.code}")
def test_a_passing_fault_is_waited_out(store: S3Store, faulty_s3: FaultyS3, verb: str, fault: object) -> None:
    faulty_s3.bucket.put("a", b"x")
    method, call = VERBS[verb]
    expected = {"read": b"x", "commit": True, "list": ["a"]}.get(verb)
    faulty_s3.then(method, fault, fault)
    assert call(store) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_that_does_not_pass_is_transient_and_names_the_bucket(store: S3Store, faulty_s3: FaultyS3, verb: str) -> None:
    method, call = VERBS[verb]
    faulty_s3.then(method, *[answers(503, "SlowDown")] * 99)
    if verb == "commit":  # a server that fails may yet have done it
        with pytest.raises(OutcomeUnknown, match="it is unknown"):
            call(store)
    else:
        with pytest.raises(Transient, match=rf"bucket '{faulty_s3.bucket.name}' at {faulty_s3.url}: .*SlowDown"):
            call(store)
    assert faulty_s3.count(method) == 4


def test_calls_at_once_have_no_budget_of_retries_in_common(faulty_s3: FaultyS3) -> None:
    """In botocore's newer modes some 40 retries of a client's calls are all that there are."""
    store = S3Store(faulty_s3.bucket.name)
    keys = [f"key-{n:02}" for n in range(16)]
    for key in keys:
        faulty_s3.then("PUT", *[answers(500)] * 7, where=key)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.write(key, b"x"), keys))
    assert len(faulty_s3.bucket.keys()) == 16


def test_an_answer_cut_short_is_read_again(store: S3Store, faulty_s3: FaultyS3) -> None:
    faulty_s3.bucket.put("a", b"0123456789" * 1000)
    faulty_s3.then("GET", CUT_SHORT, CUT_SHORT)
    assert store.read("a") == b"0123456789" * 1000


def test_a_silent_server_is_left_after_the_timeout(faulty_s3: FaultyS3) -> None:
    store = open_patient(faulty_s3.bucket.name, read_seconds=0.3)
    faulty_s3.bucket.put("a", b"x")
    faulty_s3.then("GET", HANGS)
    assert store.read("a") == b"x"


class TestDeleteMany:
    """One call for a thousand keys, of which each has an answer of its own."""

    def test_a_thousand_go_in_one_call(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        for n in range(3):
            faulty_s3.bucket.put(f"k{n}", b"x")
        store.delete_many(f"k{n}" for n in range(1_001))
        assert (faulty_s3.count("POST"), faulty_s3.count("DELETE"), faulty_s3.bucket.keys()) == (2, 0, [])

    def test_keys_that_the_server_could_not_remove_are_asked_for_one_by_one(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        for key in ("a", "b", "c"):
            faulty_s3.bucket.put(key, b"x")
        faulty_s3.then("POST", refuses_keys(a="InternalError", b="NoSuchKey"))
        faulty_s3.then("DELETE", answers(500, "InternalError"))
        store.delete_many(["a", "b", "c"])
        store.delete_many(["d"])
        assert (faulty_s3.count("POST"), faulty_s3.count("DELETE")) == (2, 2), "a batch that some keys fail in is no refusal of batches"
        assert faulty_s3.bucket.keys() == ["b", "c"]  # of which the server said that they are not there, or nothing

    def test_a_key_that_is_never_removed_is_a_passing_fault(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("POST", refuses_keys(a="InternalError"))
        faulty_s3.then("DELETE", *[answers(500, "InternalError")] * 99)
        with pytest.raises(Transient, match="InternalError"):
            store.delete_many(["a", "b"])

    def test_a_key_that_is_refused_is_named_by_its_cure(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("POST", refuses_keys(a="InternalError", b="AccessDenied"))
        faulty_s3.then("DELETE", *[answers(403, "AccessDenied")] * 2)
        with pytest.raises(BadInput, match="access is denied: allow"):
            store.delete_many(["a", "b"])

    @pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "MissingContentMD5"), (405, "MethodNotAllowed")])
    def test_a_server_without_batches_is_asked_for_each_key(self, store: S3Store, faulty_s3: FaultyS3, status: int, code: str) -> None:
        keys = [f"k{n}" for n in range(20)]
        for key in keys:
            faulty_s3.bucket.put(key, b"x")
        faulty_s3.then("POST", answers(status, code))
        store.delete_many(keys[:10])
        store.delete_many(keys[10:])
        assert (faulty_s3.count("POST"), faulty_s3.count("DELETE"), faulty_s3.bucket.keys()) == (1, 20, [])


class TestCommit:
    """The answer to a conditional put can be lost; then the object itself is asked."""

    @pytest.mark.parametrize(
        "fault", [DROPPED_AFTER, answers_after(500, "InternalError"), answers_after(503)], ids=["dropped", "500", "503"]
    )
    def test_ours_arrived_though_the_answer_did_not(self, store: S3Store, faulty_s3: FaultyS3, fault: object) -> None:
        faulty_s3.then("PUT", fault)
        assert store.commit("seal", b"ours") is True
        assert faulty_s3.count("PUT") == 1, "looked, and did not put again"

    def test_a_hung_put_that_arrived_is_found(self, faulty_s3: FaultyS3) -> None:
        store = open_patient(faulty_s3.bucket.name, read_seconds=0.3)
        faulty_s3.then("PUT", HANGS)
        assert store.commit("seal", b"ours") is True
        assert store.read("seal") == b"ours"

    def test_somebody_elses_arrived_in_the_meantime(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", overtaken_by(b"theirs"))
        assert store.commit("seal", b"ours") is False
        assert store.read("seal") == b"theirs"
        assert faulty_s3.count("PUT") == 1

    def test_nothing_arrived_so_it_is_put_again(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", DROPPED_BEFORE)
        assert store.commit("seal", b"ours") is True
        assert faulty_s3.count("PUT") == 2

    def test_ours_arrived_late_and_refuses_our_own_second_try(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", answers(500), DROPPED_BEFORE, answers_after(412, "PreconditionFailed"))
        assert store.commit("seal", b"ours") is True

    def test_a_plain_refusal_asks_nothing(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.bucket.put("seal", b"theirs")
        assert store.commit("seal", b"theirs") is False, "the same bytes, but not put by us"
        assert faulty_s3.count("GET") == 0

    def test_two_at_once_are_told_to_try_again(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", answers(409, "ConditionalRequestConflict"), answers(409, "ConditionalRequestConflict"))
        assert store.commit("seal", b"ours") is True

    def test_where_looking_fails_too_the_outcome_is_unknown(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", DROPPED_AFTER)
        faulty_s3.then("GET", *[answers(500)] * 99)
        with pytest.raises(OutcomeUnknown, match="seal"):
            store.commit("seal", b"ours")

    def test_a_conflict_that_does_not_end_is_transient(self, store: S3Store, faulty_s3: FaultyS3) -> None:
        faulty_s3.then("PUT", *[answers(409, "ConditionalRequestConflict")] * 99)
        with pytest.raises(Transient):
            store.commit("seal", b"ours")


class TestLargeFiles:
    """Files above a limit go up in pieces."""

    @pytest.fixture(autouse=True)
    def _small_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_store, "MULTIPART_BYTES", 1 << 20)
        monkeypatch.setattr(s3_store, "PIECE", 5 << 20)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "part"
        path.write_bytes(bytes(range(256)) * (11 << 12) + b"end")
        return path

    def uploads(self, bucket: S3Bucket) -> int:
        return len(bucket.server.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads", []))

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_arrive_whole(self, store: S3Store, faulty_s3: FaultyS3, file: Path, in_memory: bool) -> None:
        store.write("part", file.read_bytes() if in_memory else file)
        assert store.read("part") == file.read_bytes()
        assert faulty_s3.count("PUT") == 3

    def test_a_failed_piece_is_put_again_by_itself(self, store: S3Store, faulty_s3: FaultyS3, file: Path) -> None:
        faulty_s3.then("PUT", answers(503, "SlowDown"), DROPPED_AFTER)
        store.write("part", file)
        assert store.read("part") == file.read_bytes()
        assert faulty_s3.count("PUT") == 5

    def test_an_upload_that_the_server_lost_begins_again(self, store: S3Store, faulty_s3: FaultyS3, file: Path) -> None:
        store.write("part", b"older")
        faulty_s3.then("POST", DROPPED_AFTER, answers(404, "NoSuchUpload"), where="uploadId=")  # it was completed, and nobody was told
        store.write("part", file)
        assert store.read("part") == file.read_bytes()
        assert self.uploads(faulty_s3.bucket) == 0

    @pytest.mark.parametrize("older", [b"older", None])
    def test_an_upload_that_is_lost_twice_is_a_passing_fault(
        self, store: S3Store, faulty_s3: FaultyS3, file: Path, older: bytes | None
    ) -> None:
        if older:
            store.write("part", older)
        faulty_s3.then("POST", *[answers(404, "NoSuchUpload")] * 2, where="uploadId=")
        with pytest.raises(Transient, match="NoSuchUpload"):
            store.write("part", file)
        assert store.read("part") == older
        assert self.uploads(faulty_s3.bucket) == 0

    def test_a_failed_upload_is_aborted(self, store: S3Store, faulty_s3: FaultyS3, file: Path) -> None:
        store.write("part", b"older")
        faulty_s3.then("PUT", *[answers(500)] * 99)
        with pytest.raises(Transient):
            store.write("part", file)
        assert self.uploads(faulty_s3.bucket) == 0
        assert store.read("part") == b"older"


class TestWrongSettings:
    """Each gets one line that names bucket and endpoint and the cure, and no secret."""

    def refused(self, bucket: str, capture: pytest.LogCaptureFixture, **options: object) -> str:
        with capture.at_level(logging.INFO), pytest.raises(BadInput) as caught:
            probe_store(open_patient(bucket, **options))  # type: ignore[arg-type]
        text = str(caught.value)
        assert "\n" not in text
        assert SECRET not in text + capture.text
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__, "what the SDK says is not shown"
        return text

    def test_a_bucket_that_is_not_there(self, s3_bucket: S3Bucket, caplog: pytest.LogCaptureFixture) -> None:
        assert (
            self.refused("not-there", caplog)
            == f"bucket 'not-there' at {s3_bucket.server.url}: there is no such bucket: create it, or correct `checkpoint`"
        )

    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (403, "AccessDenied", "access is denied: allow s3:GetObject"),
            (403, "", "access is denied"),
            (403, "InvalidAccessKeyId", "set AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "set AWS_SECRET_ACCESS_KEY"),
            (400, "ExpiredToken", "renew"),
            (301, "PermanentRedirect", "another region"),
            (501, "NotImplemented", "no conditional writes"),
            (400, "SomethingNew", "the server refuses (SomethingNew)"),
        ],
    )
    def test_a_server_that_refuses(
        self, faulty_s3: FaultyS3, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        faulty_s3.then("PUT", *[answers(status, code)] * 99)
        text = self.refused(faulty_s3.bucket.name, caplog)
        assert text.startswith(f"bucket '{faulty_s3.bucket.name}' at {faulty_s3.url}: ")
        assert words in text
        assert faulty_s3.count("PUT") == (2 if status == 301 else 1), "not tried again, but for the SDK's own look for the region"

    def test_nobody_answers(self, s3_bucket: S3Bucket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        address = f"127.0.0.1:{free_port()}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET.replace('/', '%2F')}@{address}")
        text = self.refused(s3_bucket.name, caplog)
        assert text == f"bucket '{s3_bucket.name}' at http://{address}: no server answers: correct AWS_ENDPOINT_URL, or start the server"

    def test_no_credentials(
        self, s3_bucket: S3Bucket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        assert "there are no credentials: set AWS_ACCESS_KEY_ID" in self.refused(s3_bucket.name, caplog)

    def test_half_of_the_credentials(self, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(BadInput, match="half of the credentials"):
            probe_store(open_store(s3_bucket.url))

    def test_a_profile_that_is_not_there(self, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(BadInput, match="AWS_PROFILE"):
            open_store(s3_bucket.url)

    def test_an_endpoint_that_is_no_url(self, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
        with pytest.raises(BadInput, match="AWS_ENDPOINT_URL"):
            open_store(s3_bucket.url)

    def test_a_web_server_that_is_not_s3(
        self, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
            assert "no S3 server answers" in self.refused("any-bucket", caplog, read_seconds=0.2)


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_address_is_told_soon(s3_bucket: S3Bucket, waits: list[float], monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BadInput, match="no server answers"):
        VERBS[verb][1](open_patient(s3_bucket.name))
    assert len(waits) <= 2


def test_a_server_that_has_answered_before_is_out_of_reach_for_a_while(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Transient, match="4 tries"):
        open_patient(s3_bucket.name, proven=True).write("a", b"x")


def test_a_server_that_goes_away_in_the_middle_is_a_passing_fault(store: S3Store, faulty_s3: FaultyS3) -> None:
    store.write("a", b"x")
    faulty_s3.then("PUT", *[DROPPED_BEFORE] * 99)
    with pytest.raises(Transient):
        store.write("a", b"y")
