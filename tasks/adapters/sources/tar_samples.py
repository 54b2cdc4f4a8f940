"""Joins members of a tar to samples: members that share their name up to the first dot, as in webdataset.

They need not be adjacent: a sample waits for missing members until a limited number of samples has started after it. Samples are
yielded in the order of their first members.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tasks.adapters.files.left_out import LONGEST_SUFFIX
from tasks.adapters.sources.images import ENDS
from tasks.adapters.sources.tar_reader import LARGEST_MEMBER, Member
from tasks.domain.shards.findings import Findings

WINDOW_SAMPLES = 1_024
WINDOW_BYTES = 64 << 20
KEYS_REMEMBERED = 1 << 18  # of yielded samples: about 25 MB
APART = f"apart in the tar: other members of this sample are more than {WINDOW_SAMPLES:,} samples or {WINDOW_BYTES >> 20} MiB earlier: repack the tar"

HIDDEN_MEMBERS = "hidden members of tar files (below __MACOSX, or with a name that begins with '.')"
BESIDE = "members of tar files beside another one of the same sample and kind, which are not read"

MemberPart = Literal["image", "caption", "json"]
MEMBER_PARTS: dict[str, MemberPart] = {"txt": "caption", "json": "json", **dict.fromkeys(ENDS, "image")}


@dataclass(slots=True)
class TarSample:
    """The wanted members of one key."""

    key: str
    parts: dict[MemberPart, bytes] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    dotted: dict[MemberPart, list[str]] = field(default_factory=dict)  # ends such as "left.jpg"; a plain "jpg" takes precedence
    reason: str | None = None
    size: int = 0
    left: list[str] = field(default_factory=list)  # unused members: another one of the same part is there

    def add(self, end: str, part: MemberPart, member: Member) -> None:
        """Add a member; the first of two images wins."""
        self.ends.add(end)
        if member.data is None:
            self.reason = f"too large: {member.name} has {member.size} bytes, {LARGEST_MEMBER} are read at most"
            return
        plain = "." not in end
        if part in self.parts:
            self.left.append(member.name)
        if plain and part in self.dotted:
            self.parts.pop(part)
            del self.dotted[part]
        elif not plain and (part in self.dotted or part not in self.parts):
            self.dotted.setdefault(part, []).append(end)
        if part not in self.parts:
            self.parts[part] = member.data
            self.size += len(member.data)

    def ambiguous(self) -> str | None:
        """Return why it is unclear which member is meant, or None."""
        for part, ends in self.dotted.items():
            if len(ends) > 1:
                return (
                    f"more than one {part}: {', '.join(sorted(ends))}: name the one that is meant {self.key}.{ends[0].rpartition('.')[2]}"
                )
        return None


def not_read(member: Member) -> str:
    """Describe the kind of an unused member, for findings."""
    name_parts = split_name(member.name)
    if member.link or name_parts is None:
        return f"{'links in tar files' if member.link else HIDDEN_MEMBERS}, which are not read"
    suffix = name_parts[1].rpartition(".")[2]
    kind = f"with the suffix .{suffix}" if suffix and len(suffix) <= LONGEST_SUFFIX and suffix.isprintable() else "without a suffix"
    return f"members of tar files {kind}, which are not read"


def split_name(name: str) -> tuple[str, str] | None:
    """Return the key of a member's sample, and its name after the first dot; None if hidden, like the files that macOS adds."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    if base.startswith(".") or "__MACOSX" in folder.split("/"):
        return None
    key, _, end = base.partition(".")
    return f"{folder}{slash}{key}", end.lower()


def part_of_name(name: str) -> MemberPart | None:
    """Return the part of a sample that a member is; None if unknown."""
    name_parts = split_name(name)
    return MEMBER_PARTS.get(name_parts[1].rpartition(".")[2]) if name_parts else None


def join_samples(
    members: Iterable[Member], wanted: frozenset[MemberPart], *, window: int = WINDOW_SAMPLES, found: Findings | None = None
) -> Iterator[TarSample]:
    """Yield samples in the order of their first members.

    Args:
        members: in the order of the tar, those of wanted parts with their bytes.
        wanted: parts of a complete sample.
        window: samples that may start after an incomplete one before it is yielded.
        found: collects the members that are not read.
    """
    joiner = _Joiner(wanted, window, found if found is not None else Findings())
    for member in members:
        if (name := split_name(member.name)) and not member.link:
            yield from joiner.add(*name, member)
        else:
            joiner.found.add(not_read(member), member.name)
    while joiner.waiting:
        yield joiner.leave()


class _Joiner:
    def __init__(self, wanted: frozenset[MemberPart], window: int, found: Findings) -> None:
        self.found = found
        self.waiting: deque[TarSample] = deque()
        self._wanted, self._window, self._size = wanted, window, 0
        self._by_key: dict[str, TarSample] = {}
        self._gone: dict[int, bool] = {}  # by the hash of a yielded key: whether its sample was complete

    def add(self, key: str, end: str, member: Member) -> Iterator[TarSample]:
        """Add a member; yields samples that are complete or have waited too long."""
        part = MEMBER_PARTS.get(end.rpartition(".")[2])
        part = part if part in self._wanted else None
        if part is None:
            self.found.add(not_read(member), member.name)
        sample, whole = self._by_key.get(key), self._gone.get(hash(key))
        if sample is None and whole is not None and part is None:
            return  # a member that its sample does not need
        if sample is None or (part and end in sample.ends):  # a repeated name: another row with this key
            while self.waiting and self._may_leave(self.waiting[0]):
                yield self.leave()
            sample = self._begin(key, None if whole is not False else APART)
        if part:
            self._size -= sample.size
            sample.add(end, part, member)
            self._size += sample.size

    def _may_leave(self, first: TarSample) -> bool:
        return self._is_complete(first) or len(self.waiting) >= self._window or self._size > WINDOW_BYTES

    def _is_complete(self, sample: TarSample) -> bool:
        return self._wanted <= sample.parts.keys()

    def _begin(self, key: str, reason: str | None) -> TarSample:
        sample = self._by_key[key] = TarSample(key, reason=reason)
        self.waiting.append(sample)
        return sample

    def leave(self) -> TarSample:
        """Remove and return the first waiting sample."""
        sample = self.waiting.popleft()
        self._size -= sample.size
        if self._by_key.get(sample.key) is sample:
            del self._by_key[sample.key]
        if len(self._gone) >= KEYS_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[hash(sample.key)] = self._is_complete(sample)
        if sample.left and not sample.ambiguous():
            self.found.add(BESIDE, sample.left[0], len(sample.left))
        return sample
