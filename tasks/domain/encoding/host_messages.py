"""What a host of a cluster answers. Plain values: they cross to another machine as JSON."""

from __future__ import annotations

from pydantic import Field, JsonValue

from tasks.domain.encoding.encoding_events import EncodingEvent
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import KitestringError, Leaf, error_of, leaf_of
from tasks.domain.strict import Strict
from tasks.domain.target.rate_limit import LoadCounts


class HostIdentity(Strict):
    """What has to be the same on every host of a run, and a name for people."""

    host: str = Field(description="The machine's own name.")
    version: str | None = Field(description="Of Kitestring; None in a checkout that is not installed.")
    code: str = Field(description="Digest of its modules.")
    libraries: dict[str, str | None] = Field(description="Versions of those that vectors depend on.")

    def difference(self, other: HostIdentity) -> str:
        """What differs of another host, this one's first; empty: nothing."""
        if self.version != other.version:
            return f"it has Kitestring {self.version}, the flow {other.version}"
        if self.code != other.code:
            return "its Kitestring is other code than the flow's, of the same version"
        names = [name for name in other.libraries if self.libraries.get(name) != other.libraries[name]]
        return ", ".join(f"it has {name} {self.libraries.get(name)}, the flow {other.libraries[name]}" for name in names)


class LogLine(Strict):
    """A line that a host has logged."""

    level: int
    text: str


class HostReport(Strict):
    """How far a host is, and what it tells: events and lines by number, so that none is taken in twice or missed."""

    first: int = Field(0, description="Number of the first event.")
    events: tuple[EncodingEvent, ...] = ()
    lines: tuple[LogLine, ...] = ()
    progress: EncodingProgress = Field(default_factory=EncodingProgress)
    loading: LoadCounts = Field(default_factory=LoadCounts, description="What it has loaded into the run's collection.")
    leaving: bool = Field(False, description="It will be taken away, and begins nothing more.")
    closed: bool = Field(False, description="It has closed itself, since nobody called.")


class Refusal(Strict):
    """An error, as it crosses."""

    leaf: Leaf
    text: str
    row: int | None = None

    @property
    def error(self) -> KitestringError:
        """What is raised on this side."""
        return error_of(self.leaf, self.text, row=self.row)


class HostAnswer(Strict):
    """The answer to any call. `value`: what was asked for, as JSON."""

    value: JsonValue = None
    refusal: Refusal | None = None
    given_back: bool = Field(False, description="The host is leaving, or was asked for the group, and has not finished it.")
    report: HostReport = Field(default_factory=HostReport)


def refusal_of(error: KitestringError) -> Refusal:
    """An error as it is answered."""
    return Refusal(leaf=leaf_of(error), text=str(error), row=error.row)
