"""The laws are listed once, and who cites one cites it by its name."""

from __future__ import annotations

import re
from pathlib import Path

from tasks import domain

ROOT = Path(__file__).parents[2]
LAWS = set(re.findall(r"^([A-Z][a-z]+(?: [a-z]+)+)  ", domain.__doc__ or "", re.MULTILINE))


def sources() -> dict[Path, str]:
    return {path: path.read_text() for folder in ("flows", "tasks", "tests") for path in (ROOT / folder).rglob("*.py")}


def test_there_are_eleven() -> None:
    assert len(LAWS) == 11


def test_a_law_that_is_cited_is_one_of_them() -> None:
    cited = {(path.name, law) for path, text in sources().items() for law in re.findall(r'\bthe law "([^"]+)"', text, re.IGNORECASE)}
    assert {law for _, law in cited} >= {"Accounted rows", "One model", "No orphans", "Bounded memory"}
    assert not {(name, law) for name, law in cited if law not in LAWS and name != Path(__file__).name}


def test_no_law_is_cited_by_a_number() -> None:
    assert not [path for path, text in sources().items() if re.search(r"\blaw" + r" \d", text, re.IGNORECASE)]
