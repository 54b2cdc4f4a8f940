"""An engine of two hosts that are threads of this process and are told everything as JSON, as machines would be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa

from tasks.adapters.engines.host import Host
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_events import EVENTS, EncodingEvent, Tell
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.errors import KitestringError, error_of, leaf_of
from tasks.domain.estimate.rates import Observation
from tasks.domain.job.encoder import EncoderFacts
from tasks.domain.job.engine import EngineKind, EngineSettings
from tasks.domain.ports import Store

HOSTS = 2
DEPTH = 2  # groups that a host has at a time
R = TypeVar("R")


class FakeEngineSettings(EngineSettings):
    """It has none."""

    kind: Literal["fake"] = "fake"


@dataclass(slots=True)
class _Member:
    """A host, where it works, and how many groups it has."""

    host: Host
    threads: ThreadPoolExecutor
    groups: int = 0

    def ask(self, call: Callable[[Host], R]) -> R:
        """As a call to another machine: an error comes back as what it says."""

        def answer() -> R | tuple[str, ...]:
            return call(self.host)

        try:
            return self.threads.submit(answer).result()  # type: ignore[return-value]
        except KitestringError as error:
            raise error_of(leaf_of(error), str(error), row=error.row) from None


class FakeEngine:
    """An `Engine`."""

    def __init__(
        self, spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None
    ) -> None:
        self._tell = tell
        self._members = [self._member(spec.model_dump_json(), scratch / f"host-{number}") for number in range(HOSTS)]

    def _member(self, spec: str, scratch: Path) -> _Member:
        scratch.mkdir()
        host = Host(EncodingSpec.model_validate_json(spec), scratch=scratch, tell=self._hear)
        return _Member(host, ThreadPoolExecutor(DEPTH, thread_name_prefix=scratch.name))

    def _hear(self, event: EncodingEvent) -> None:
        self._tell(EVENTS.validate_json(EVENTS.dump_json(event)))

    @property
    def width(self) -> int:
        return HOSTS * DEPTH

    def start(self) -> None:
        self._members[0].ask(Host.start)

    def facts(self) -> EncoderFacts:
        return self._members[0].ask(Host.facts)

    def expect(self, rows: int | None) -> None:
        for member in self._members:
            member.ask(lambda host: host.expect(rows and rows // HOSTS))

    def encode(self, group: ShardGroup) -> None:
        written = group.model_dump_json()
        member = min(self._members, key=lambda member: member.groups)
        member.groups += 1
        try:
            member.ask(lambda host: host.encode(ShardGroup.model_validate_json(written)))
        finally:
            member.groups -= 1

    def measure(self, rows: pa.Table) -> Observation:
        return self._members[0].ask(lambda host: host.measure(rows))

    def progress(self) -> EncodingProgress:
        """All ranks in one row: those of the second host come after those of the first."""
        each = [member.host.progress() for member in self._members]
        return EncodingProgress(
            rows=sum(one.rows for one in each),
            tokens=sum(one.tokens for one in each),
            seconds=max(one.seconds for one in each),
            rows_by_rank=tuple(sum(one.rows_by_rank) for one in each),
            work=tuple(work.model_copy(update={"rank": rank}) for rank, one in enumerate(each) for work in one.work),
            newest={rank: name for rank, one in enumerate(each) for name in one.newest.values()},
            under_way=tuple(at.model_copy(update={"rank": rank}) for rank, one in enumerate(each) for at in one.under_way),
        )

    def release(self, *, wait: bool = False) -> None:
        for member in self._members:
            member.ask(lambda host: host.release(wait=wait))

    def close(self) -> None:
        for member in self._members:
            member.host.close()


FAKE = EngineKind(settings=FakeEngineSettings, opens=f"{__name__}:FakeEngine")
