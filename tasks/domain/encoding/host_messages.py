"""Replies of a cluster's hosts. Plain values, sent between machines as JSON."""

from __future__ import annotations

from pydantic import Field, JsonValue

from tasks.domain.encoding.encoding_events import EncodingEvent
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import KitestringError, Leaf, error_of, leaf_of
from tasks.domain.strict import Strict
from tasks.domain.target.rate_limit import LoadCounts


class HostIdentity(Strict):
    """What must be equal on all hosts of a run, and the host's name for people."""

    host: str = Field(description="The machine's own name.")
    version: str | None = Field(description="Kitestring's version; None in a checkout that is not installed.")
    code: str = Field(description="Digest of Kitestring's modules.")
    libraries: dict[str, str | None] = Field(description="Versions of the libraries that vectors depend on.")

    def difference(self, other: HostIdentity) -> str:
        """Describe how this host differs from the flow's, `other`; empty: not at all."""
        if self.version != other.version:
            return f"it has Kitestring {self.version}, the flow {other.version}"
        if self.code != other.code:
            return "its Kitestring has the flow's version but other code"
        names = [name for name in other.libraries if self.libraries.get(name) != other.libraries[name]]
        return ", ".join(f"it has {name} {self.libraries.get(name)}, the flow {other.libraries[name]}" for name in names)


class LogLine(Strict):
    """A log line of a host."""

    level: int
    text: str


class HostReport(Strict):
    """The progress, events and log lines of a host. Events are numbered, so that none is processed twice or missed."""

    first: int = Field(0, description="Number of the first event.")
    events: tuple[EncodingEvent, ...] = ()
    lines: tuple[LogLine, ...] = ()
    progress: EncodingProgress = Field(default_factory=EncodingProgress)
    loading: LoadCounts = Field(default_factory=LoadCounts, description="Loading into the run's collection.")
    leaving: bool = Field(False, description="The host will be taken away and accepts no more work.")
    closed: bool = Field(False, description="The host has closed itself because no call arrived.")


class Refusal(Strict):
    """An error in its serialised form."""

    leaf: Leaf
    text: str
    row: int | None = None

    @property
    def error(self) -> KitestringError:
        """The error to raise on the receiving side."""
        return error_of(self.leaf, self.text, row=self.row)


class HostAnswer(Strict):
    """The reply to any call. `value`: the result as JSON."""

    value: JsonValue = None
    refusal: Refusal | None = None
    given_back: bool = Field(False, description="The host returned the group unfinished: it is leaving, or the group was recalled.")
    report: HostReport = Field(default_factory=HostReport)


def refusal_of(error: KitestringError) -> Refusal:
    """Return the serialised form of an error."""
    return Refusal(leaf=leaf_of(error), text=str(error), row=error.row)
