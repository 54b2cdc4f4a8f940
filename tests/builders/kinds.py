"""Two kinds more: a line each in the registries, for as long as a test runs."""

from __future__ import annotations

import pytest

from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.source import SOURCES

LINES, LETTERS = "tests.builders.lines_source:LINES", "tests.builders.letters_encoder:LETTERS"


@pytest.fixture
def more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of kind 'lines' and an encoder of kind 'letters'."""
    monkeypatch.setitem(SOURCES.known, "lines", LINES)
    monkeypatch.setitem(ENCODERS.known, "letters", LETTERS)
