"""Interprets the answers of a fleet's hosts."""

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

EVERY_HOST = "encoder.precision: float32 works on every host"


def value_of(answer: HostAnswer) -> Any:
    """The value of an answer.

    Raises:
        KitestringError: the error that the host raised.
    """
    if answer.refusal is not None:
        raise answer.refusal.error
    return answer.value


def in_a_line(error: BaseException) -> str:
    """A distributed engine's error, which may span pages, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def facts_difference(ours: EncoderFacts, settled: EncoderFacts) -> str:
    """How a host's encoder differs from the facts settled for the corpus, and the remedy; "" if it does not."""
    names = ("precision", "dim", "max_seq_length")
    wrong = [name for name in names if getattr(ours, name) != getattr(settled, name)]
    if other := other_server(ours.server, settled.server):
        return f"its server has another model: {other}"
    differences = ", ".join(f"its encoder has {name} {getattr(ours, name)}, the corpus {getattr(settled, name)}" for name in wrong)
    return f"{differences}; {EVERY_HOST}" if "precision" in wrong else differences


def load_refusal(text: str, settled: EncoderFacts | None) -> str:
    """Why a host cannot load the encoder; recommends float32 if the text names the settled precision."""
    of_precision = settled is not None and settled.precision != "float32" and settled.precision in text
    return f"{text}; {EVERY_HOST}" if of_precision else text


def made_by(key: str, attempt: str) -> bool:
    """Whether a part was written by an attempt, or by one that followed it."""
    writer = writer_of(key)
    return writer is not None and (writer == attempt or writer.startswith(f"{attempt}-"))


def failed_with_its_group(shard: Shard, answer: HostAnswer) -> ShardFailed:
    """The event for a shard of a group that a host refused without naming a shard."""
    assert answer.refusal is not None
    return ShardFailed(shard=shard.id, name=shard.name, leaf=answer.refusal.leaf, text=answer.refusal.text, row=answer.refusal.row)


def pass_on(answered: Future[HostAnswer], future: Future[str]) -> None:
    """Pass an answer on to the waiting caller."""
    if error := future.exception():
        answered.set_exception(Transient(f"the host that was measuring is lost: {in_a_line(error)}"))
    else:
        answered.set_result(HostAnswer.model_validate_json(future.result()))


def heard(_seat: HostSeat, _answer: HostAnswer) -> None:
    """Does nothing: the driver has already taken in the report of an answer without a value."""


def end_take(division: WorkDivision, take: Take, answer: HostAnswer) -> None:
    """Record in the division that a host has answered a take."""
    transient = answer.refusal.error if answer.refusal and answer.refusal.leaf == "transient" else None
    if answer.refusal and not transient and not take.refused and take.units:  # the error does not say which shard failed
        for shard in take.group.shards:
            division.refused(take, failed_with_its_group(shard, answer))
    division.answered(take, transient, given_back=answer.given_back)
