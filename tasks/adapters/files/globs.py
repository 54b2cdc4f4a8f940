"""Patterns over paths: `*` and `?` match within one name, `**` any number of folders."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tasks.adapters.files.left_out import HIDDEN, LeftOut, other_suffix
from tasks.adapters.files.table_marks import table_of

WILD = re.compile(r"[*?\[]")
PARQUET = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The wanted files below a root. Names use `/` and are relative to the root.

    A pattern that matches a folder takes its files with one of the suffixes, recursively.
    """

    parts: tuple[str, ...]
    suffixes: tuple[str, ...]
    regexes: tuple[re.Pattern[str], ...] = field(default=(), compare=False)

    def takes_file(self, name: str) -> bool:
        """Return whether a file of this name is wanted."""
        self._refuse_table(name)
        if not self.parts:
            return name.lower().endswith(self.suffixes) and not self._hidden(name)
        return not self._hidden(name) and any(self._accepts_suffix(name, rest) for rest in self._full_matches(name))

    def enters(self, name: str) -> bool:
        """Return whether a folder of this name can contain a wanted file."""
        self._refuse_table(name)
        if self._hidden(name):
            return False
        return bool(self._states(name.split("/"))) or self._may_be_log(name)

    def note_left_out(self, name: str, left_out: LeftOut) -> None:
        """Count a skipped file, or folder (its name ends in '/'), if the pattern itself matches it."""
        matched = not self.parts or (bool(self._states(name[:-1].split("/"))) if name.endswith("/") else bool(self._full_matches(name)))
        pieces = name.split("/")
        hidden = next((at for at, piece in enumerate(pieces) if self._hidden(piece)), None)
        if not matched:
            return
        if hidden is not None:
            left_out.add(HIDDEN, "/".join(pieces[: hidden + 1]) + "/" * (hidden + 1 < len(pieces)))
        elif not name.endswith("/"):
            left_out.add(other_suffix(name), name)

    def _may_be_log(self, name: str) -> bool:
        """Return whether a folder may be an Iceberg log: it is entered to detect the table, even if the pattern matches only siblings."""
        *above, last = name.split("/")
        return last == "metadata" and PARQUET in self.suffixes and (not above or bool(self._states(above)))

    def _refuse_table(self, name: str) -> None:
        """Raise IsATable if Parquet files are wanted and this name belongs to the log of a lakehouse table with some of them."""
        table = table_of(name) if PARQUET in self.suffixes else None
        if table and not self._hidden(table[0]) and (not table[0] or self._states(table[0].split("/"))):
            raise table[1]

    def _accepts_suffix(self, name: str, below: bool) -> bool:
        named = self.parts[-1].strip("*") != "" and not below
        return named or name.lower().endswith(self.suffixes)

    def _full_matches(self, name: str) -> set[bool]:
        """Return the ways to match a whole name: True if the pattern ended at a folder above it."""
        return {below for state, below in self._states(name.split("/")) if state == len(self.parts)}

    def _states(self, names: list[str]) -> set[tuple[int, bool]]:
        """Return the reachable states of the pattern: (parts used, whether the pattern ended above the name)."""
        states = self._free({(0, False)})
        for name in names:
            states = self._free({s for state in states for s in self._step(state, name)})
        return states

    def _step(self, state: tuple[int, bool], name: str) -> set[tuple[int, bool]]:
        used, _ = state
        if used == len(self.parts):
            return {(used, True)}
        if self.parts[used] == "**":
            return {(used, False)}
        return {(used + 1, False)} if self.regexes[used].fullmatch(name) else set()

    def _free(self, states: set[tuple[int, bool]]) -> set[tuple[int, bool]]:
        """Add the states in which `**` matches no folder."""
        reached = set(states)
        for used, below in states:
            at = used
            while at < len(self.parts) and self.parts[at] == "**":
                at += 1
                reached.add((at, below))
        return reached

    def _hidden(self, name: str) -> bool:
        """Return whether a name starts with '.' or '_' and the pattern does not name that explicitly."""
        explicit = {part[0] for part in self.parts if part[0] in "._"}
        pieces = (piece for piece in name.split("/") if piece not in {".", ".."})  # S3 keys may contain them like any other name
        return any(piece[:1] in {".", "_"} and piece[0] not in explicit for piece in pieces)


def make_pattern(parts: list[str], suffixes: tuple[str, ...]) -> Pattern:
    """Compile a pattern; without parts it matches everything below the root with one of the suffixes."""
    non_empty = tuple(part for part in parts if part)
    return Pattern(parts=non_empty, suffixes=suffixes, regexes=tuple(re.compile(_regex(part), re.DOTALL) for part in non_empty))


def split_pattern(path: str) -> tuple[str, list[str]]:
    """Return the fixed folder before the first wildcard, and the parts from there on."""
    parts = path.split("/")
    wild = next((i for i, part in enumerate(parts) if WILD.search(part)), len(parts))
    return "/".join(parts[:wild]), parts[wild:]


def _regex(part: str) -> str:
    """Convert one path part to a regular expression; an unclosed bracket is literal."""
    pieces, at = [], 0
    while at < len(part):
        end = part.find("]", at + 2) if part[at] == "[" else -1
        if end > 0:
            inner = part[at + 1 : end]
            negated = inner[0] in "!^"
            escaped = (inner[1:] if negated else inner).replace("\\", r"\\").replace("[", r"\[")
            pieces.append(f"[{'^' if negated else ''}{escaped}]")
            at = end + 1
            continue
        pieces.append({"*": ".*", "?": "."}.get(part[at], re.escape(part[at])))
        at += 1
    return "".join(pieces)
