"""What the answers of a fleet's hosts say."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.host_messages import HostAnswer
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Take
from tasks.domain.errors import Transient
from tasks.domain.served_identity import other_server
from tasks.domain.shards.layout import writer_of
from tasks.domain.shards.shard import Shard

EVERY_HOST = "encoder.precision: float32 is what every host can do"


def value_of(answer: HostAnswer) -> Any:
    """The answer to a request.

    Raises:
        KitestringError: as the host raised it.
    """
    if answer.refusal is not None:
        raise answer.refusal.error
    return answer.value


def in_a_line(error: BaseException) -> str:
    """An error of a distributed engine, which may be pages, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def facts_difference(ours: EncoderFacts, settled: EncoderFacts) -> str:
    """Why a host's encoder is not what the corpus was settled on, and what to do about it; empty: it is."""
    names = ("precision", "dim", "max_seq_length")
    wrong = [name for name in names if getattr(ours, name) != getattr(settled, name)]
    if other := other_server(ours.server, settled.server):
        return f"its server has another model: {other}"
    told = ", ".join(f"its encoder has {name} {getattr(ours, name)}, the corpus {getattr(settled, name)}" for name in wrong)
    return f"{told}; {EVERY_HOST}" if "precision" in wrong else told


def load_refusal(text: str, settled: EncoderFacts | None) -> str:
    """Why a host cannot load what the corpus was settled on, and what every host can."""
    hopeful = settled is not None and settled.precision != "float32" and settled.precision in text
    return f"{text}; {EVERY_HOST}" if hopeful else text


def made_by(key: str, attempt: str) -> bool:
    """Whether a part is of an attempt, or of one that followed it."""
    writer = writer_of(key)
    return writer is not None and (writer == attempt or writer.startswith(f"{attempt}-"))


def failed_without_a_word(shard: Shard, answer: HostAnswer) -> ShardFailed:
    """Of a host that refuses a group without saying which shard."""
    assert answer.refusal is not None
    return ShardFailed(shard=shard.id, name=shard.name, leaf=answer.refusal.leaf, text=answer.refusal.text, row=answer.refusal.row)


def pass_on(answered: Future[HostAnswer], future: Future[str]) -> None:
    """Pass an answer on to the waiting caller."""
    if error := future.exception():
        answered.set_exception(Transient(f"the host that was measuring is lost: {in_a_line(error)}"))
    else:
        answered.set_result(HostAnswer.model_validate_json(future.result()))


def heard(_seat: HostSeat, _answer: HostAnswer) -> None:
    """What the answer to a call without a result says is taken in already."""


def end_take(division: WorkDivision, take: Take, answer: HostAnswer) -> None:
    """A host has answered what it was given: tell the division."""
    passing = answer.refusal.error if answer.refusal and answer.refusal.leaf == "transient" else None
    if answer.refusal and not passing and not take.refused and take.units:  # it says what failed, but not of which shard
        for shard in take.group.shards:
            division.refused(take, failed_without_a_word(shard, answer))
    division.answered(take, passing, given_back=answer.given_back)
