"""The README taken apart: its quick starts as jobs, commands and what the commands print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ANYTHING = "..."  # in what a command prints: what differs from run to run
SCORE_WITHIN = 0.02
_SCORE = re.compile(r"\b\d\.\d{3}\b")


@dataclass(frozen=True, kw_only=True)
class QuickStart:
    """One of them: the job file and, in their order, each command with what it prints on stdout."""

    title: str
    file: str
    job: str
    commands: list[tuple[str, str]]


def quick_starts() -> list[QuickStart]:
    """All that the README has."""
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [_quick_start(section) for section in sections if section.startswith("Quick start")]


def _quick_start(section: str) -> QuickStart:
    title = section.partition("\n")[0]
    (job,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    (file,) = re.findall(r"[Ss]ave [^`]*`(\w+\.yaml)`", section)
    commands = [block.partition("\n") for block in re.split(r"^\$ ", console, flags=re.MULTILINE) if block]
    return QuickStart(title=title, file=file, job=job, commands=[(command, printed) for command, _, printed in commands])


def prints(expected: str, printed: str) -> bool:
    """Whether a command printed what the README says; `...` is anything, and a score may be a little off: processors differ."""
    pattern = ".*".join(_pattern(piece) for piece in expected.rstrip().split(ANYTHING))
    found = re.fullmatch(pattern, printed.rstrip(), re.DOTALL)
    wanted = [float(score) for score in _SCORE.findall(expected)]
    return found is not None and all(abs(float(score) - want) < SCORE_WITHIN for score, want in zip(found.groups(), wanted, strict=True))


def _pattern(text: str) -> str:
    return r"(\d\.\d{3})".join(re.escape(piece) for piece in _SCORE.split(text))
