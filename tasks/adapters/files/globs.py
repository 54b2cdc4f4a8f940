"""Patterns over paths: `*` and `?` stay inside one name, `**` goes any number of folders down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tasks.adapters.files.left_out import HIDDEN, LeftOut, other_suffix
from tasks.adapters.files.table_marks import table_of

WILD = re.compile(r"[*?\[]")
PARQUET = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The files wanted below a root. Names use `/` and are relative to the root.

    A pattern that matches a folder takes the folder's files with one of the suffixes, to the bottom.
    """

    parts: tuple[str, ...]
    suffixes: tuple[str, ...]
    regexes: tuple[re.Pattern[str], ...] = field(default=(), compare=False)

    def takes_file(self, name: str) -> bool:
        """Whether a file of this name is wanted."""
        self._refuse_table(name)
        if not self.parts:
            return name.lower().endswith(self.suffixes) and not self._hidden(name)
        return not self._hidden(name) and any(self._good_end(name, rest) for rest in self._rests(name))

    def enters(self, name: str) -> bool:
        """Whether a folder of this name can hold a wanted file."""
        self._refuse_table(name)
        if self._hidden(name):
            return False
        return bool(self._states(name.split("/"))) or self._may_be_log(name)

    def note_left_out(self, name: str, left_out: LeftOut) -> None:
        """Count a file, or a folder (its name ends in '/'), that is not taken, if the pattern as such asks for it."""
        asked = not self.parts or (bool(self._states(name[:-1].split("/"))) if name.endswith("/") else bool(self._rests(name)))
        pieces = name.split("/")
        hidden = next((at for at, piece in enumerate(pieces) if self._hidden(piece)), None)
        if not asked:
            return
        if hidden is not None:
            left_out.add(HIDDEN, "/".join(pieces[: hidden + 1]) + "/" * (hidden + 1 < len(pieces)))
        elif not name.endswith("/"):
            left_out.add(other_suffix(name), name)

    def _may_be_log(self, name: str) -> bool:
        """Iceberg's folder is entered to tell it from others of its name, though the pattern asks for folders beside it alone."""
        *above, last = name.split("/")
        return last == "metadata" and PARQUET in self.suffixes and (not above or bool(self._states(above)))

    def _refuse_table(self, name: str) -> None:
        """Parquet files are wanted, and this name belongs to the log of a lakehouse table that holds some of them."""
        found = table_of(name) if PARQUET in self.suffixes else None
        if found and not self._hidden(found[0]) and (not found[0] or self._states(found[0].split("/"))):
            raise found[1]

    def _good_end(self, name: str, below: bool) -> bool:
        named = self.parts[-1].strip("*") != "" and not below
        return named or name.lower().endswith(self.suffixes)

    def _rests(self, name: str) -> set[bool]:
        """Ways to match a whole name: True where the pattern ended at a folder above it."""
        return {below for state, below in self._states(name.split("/")) if state == len(self.parts)}

    def _states(self, names: list[str]) -> set[tuple[int, bool]]:
        """Places in the pattern that can be reached: (parts used, whether names were left over)."""
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
        """`**` may also stand for no folder at all."""
        reached = set(states)
        for used, below in states:
            at = used
            while at < len(self.parts) and self.parts[at] == "**":
                at += 1
                reached.add((at, below))
        return reached

    def _hidden(self, name: str) -> bool:
        """Names that start with '.' or '_' are left out, unless the pattern spells that out."""
        asked = {part[0] for part in self.parts if part[0] in "._"}
        pieces = (piece for piece in name.split("/") if piece not in {".", ".."})  # keys of S3 hold these as they hold any others
        return any(piece[:1] in {".", "_"} and piece[0] not in asked for piece in pieces)


def make_pattern(parts: list[str], suffixes: tuple[str, ...]) -> Pattern:
    """Compile a pattern; no parts: everything below the root that ends in a suffix."""
    kept = tuple(part for part in parts if part)
    return Pattern(parts=kept, suffixes=suffixes, regexes=tuple(re.compile(_regex(part), re.DOTALL) for part in kept))


def split_pattern(path: str) -> tuple[str, list[str]]:
    """The fixed folder before the first wildcard, and the parts from there on."""
    parts = path.split("/")
    wild = next((i for i, part in enumerate(parts) if WILD.search(part)), len(parts))
    return "/".join(parts[:wild]), parts[wild:]


def _regex(part: str) -> str:
    """One path part as a regular expression; a bracket that is not closed is literal."""
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
