"""What each error of Milvus leads to, with a clock of its own."""

from __future__ import annotations

import grpc
import pytest
from pymilvus.exceptions import MilvusException, ParamError

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus.server_errors import RetryDecision, ServerAddress, is_there_already, judge, retried
from tasks.domain.errors import BadInput, OutcomeUnknown, Permanent, Transient


class FakeTime:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def call(self, action, doing, at, *, seconds=60.0, **how):
        policy = RetryPolicy(seconds=seconds, sleep=self.slept.append, clock=lambda: sum(self.slept), jitter=lambda: 0.5)
        return retried(action, doing, at, policy=policy, **how)


class StatusError(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode, details: str = "said") -> None:
        super().__init__()
        self._status, self._details = status, details

    def code(self):
        return self._status

    def details(self):
        return self._details


class Script:
    """Fails as told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


AT = ServerAddress("http://milvus:19530", ("s3cret",))


@pytest.mark.parametrize("code", [1, 2, 4, 8, 12, 101, 103, 106, 202, 1002, 1807])
def test_a_passing_fault_is_tried_again(code):
    clock, script = FakeTime(), Script(*[MilvusException(code, "later")] * 3)
    assert clock.call(script, "upserting", AT) == "done"
    assert script.calls == 4
    assert clock.slept == sorted(clock.slept)


@pytest.mark.parametrize("code", [7, 100, 1100, 1101, 1102])
def test_a_fault_that_stays_is_told_at_once(code):
    clock, script = FakeTime(), Script(MilvusException(code, "never"))
    with pytest.raises(Permanent, match="never"):
        clock.call(script, "upserting", AT)
    assert (script.calls, clock.slept) == (1, [])


@pytest.mark.parametrize("code", [3, 9])
def test_a_quota_is_asked_slowly_and_not_for_ever(code):
    clock, script = FakeTime(), Script(*[MilvusException(code, "quota exceeded")] * 100)
    with pytest.raises(Transient, match="quota exceeded"):
        clock.call(script, "upserting", AT, writes=True, seconds=60)
    assert set(clock.slept) == {5.0}
    assert script.calls <= 13


def test_the_total_is_bounded_and_a_write_may_have_been_done():
    clock = FakeTime()
    with pytest.raises(OutcomeUnknown, match="still failing after 30 s"):
        clock.call(Script(*[MilvusException(2, "Fail connecting")] * 1000), "upserting", AT, writes=True, seconds=30)
    assert sum(clock.slept) <= 30


def test_a_read_that_never_came_back_changed_nothing():
    with pytest.raises(Transient):
        FakeTime().call(Script(*[StatusError(grpc.StatusCode.DEADLINE_EXCEEDED)] * 1000), "reading", AT, seconds=5)


def test_a_rate_limit_changed_nothing():
    with pytest.raises(Transient):
        FakeTime().call(Script(*[MilvusException(8, "rate limit")] * 1000), "upserting", AT, writes=True, seconds=5)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("cannot parse expression: id ==", RetryDecision.NEVER),
        ("collection not loaded", RetryDecision.AGAIN),
        ("node offline", RetryDecision.AGAIN),
        ("NodeNotFound", RetryDecision.AGAIN),  # of a load after a crash, seen once
        ("node not match[expectedNodeID=5][actualNodeID=9]", RetryDecision.AGAIN),
        ("context deadline exceeded", RetryDecision.AGAIN),
        ("unrecoverable error", RetryDecision.AGAIN),  # of a load after a crash, with no word more
        ("quota exceeded[reason=memory quota]", RetryDecision.SLOWLY),
        ("auth check failure, please check username and password", RetryDecision.DENIED),
        ("something nobody has seen", RetryDecision.NEVER),
    ],
)
def test_the_catch_all_code_is_read_by_its_words(said, verdict):
    assert judge(MilvusException(65535, said)) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (StatusError(grpc.StatusCode.UNAVAILABLE), RetryDecision.AGAIN),
        (StatusError(grpc.StatusCode.DEADLINE_EXCEEDED), RetryDecision.AGAIN),
        (StatusError(grpc.StatusCode.UNAUTHENTICATED), RetryDecision.DENIED),
        (StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max"), RetryDecision.NEVER),
        (StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests"), RetryDecision.AGAIN),
        (MilvusException(grpc.StatusCode.UNAVAILABLE, "Retry run out"), RetryDecision.AGAIN),
        (ParamError(message="we sent nonsense"), RetryDecision.NEVER),
        (MilvusException(1, "Unexpected error, message=<'x' has no attribute>"), RetryDecision.NEVER),
        (MilvusException(1, "Unexpected error, message=<Cannot invoke RPC on closed channel!>"), RetryDecision.AGAIN),
    ],
)
def test_what_pymilvus_and_grpc_raise_is_understood(error, verdict):
    assert judge(error) is verdict


def test_milvus_lite_is_not_waited_for():
    script = Script(MilvusException(1, "anything"))
    with pytest.raises(Permanent):
        FakeTime().call(script, "upserting", ServerAddress("./t.db"), lite=True)
    assert script.calls == 1


def test_a_refused_token_says_where_the_token_comes_from_and_not_what_it_is():
    with pytest.raises(BadInput, match="set MILVUS_TOKEN") as refused:
        FakeTime().call(Script(MilvusException(65535, "auth check failure for s3cret\nand more")), "reading", AT)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("collection 'c' already exists", True),  # Milvus Lite
        ("index already exists for field 'vector'; drop it first", True),
        ("create duplicate collection with different parameters, collection: c", True),
        ("CreateIndex failed: at most one distinct index is allowed per field", True),
        ("index duplicates[indexName=vector]", True),
        ("database not exist[database=x]", False),
        ("database default doesn't exist", False),
        ("field vector not existed in the schema", False),
        ("collection name [c] conflicts with an existing alias, please choose a unique name", False),
        ("duplicated field name: vector", False),
    ],
)
def test_only_what_is_there_counts_as_made_by_somebody_else(said, there):
    assert is_there_already(MilvusException(65535, said)) is there


def test_a_database_that_is_not_there_is_the_users_to_correct():
    with pytest.raises(BadInput, match=r"correct target\.database"):
        FakeTime().call(Script(MilvusException(800, "database not found[database=x]")), "reading", AT)


def test_a_right_that_is_missing_in_a_database_is_one_of_the_token():
    with pytest.raises(BadInput, match="set MILVUS_TOKEN"):
        FakeTime().call(Script(MilvusException(1401, "permission deny: no right to Search in database default")), "reading", AT)


def test_a_password_in_the_uri_is_not_told():
    at = ServerAddress("https://user:pa55@host:443/db")
    assert at.name == "https://host:443"
    assert "pa55" not in at.without_secrets("cannot reach https://user:pa55@host:443")
