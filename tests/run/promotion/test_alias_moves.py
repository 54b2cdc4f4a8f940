"""An alias that somebody moves while a run asks its gate stays where they put it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.run.promotion import alias_moves
from tasks.run.promotion.alias_moves import MoveOutcome, pass_gate
from tasks.run.promotion.promotion_gate import GateResult


class Aliases:
    """A target's alias, and the moves that were written down."""

    def __init__(self) -> None:
        self.now: str | None = "live"
        self.noted: list[Any] = []

    def resolve(self, _alias: str) -> str | None:
        return self.now

    def point(self, _alias: str, name: str) -> None:
        self.now = name

    def note(self, move: Any) -> None:
        self.noted.append(move)


@pytest.mark.parametrize(("meanwhile", "ends_at"), [("live", "new"), ("new", "new"), ("earlier", "earlier"), (None, None)])
def test_the_gate_does_not_move_an_alias_that_was_moved_while_it_was_asked(
    monkeypatch: pytest.MonkeyPatch, meanwhile: str | None, ends_at: str | None
) -> None:
    aliases = Aliases()

    def ask(*_: object) -> GateResult:
        aliases.now = meanwhile
        return GateResult(notes=[], refused=None)

    monkeypatch.setattr(alias_moves, "evaluate_gate", ask)
    monkeypatch.setattr(alias_moves, "why_smaller", lambda *_: None)
    monkeypatch.setattr(alias_moves, "new_move", lambda _plan, live, by: (live, by))
    plan: Any = SimpleNamespace(spec=SimpleNamespace(alias="rows", name="new"))
    outcome: MoveOutcome = pass_gate(plan, SimpleNamespace(target=aliases), aliases, by="run")  # type: ignore[arg-type]
    assert (aliases.now, outcome.live) == (ends_at, ends_at)
    assert bool(outcome.refused) == (ends_at != "new") == (not aliases.noted)
