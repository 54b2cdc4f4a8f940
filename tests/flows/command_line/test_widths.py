"""Tables and bars for a terminal of some width: nothing that a person needs is cut off."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from flows.command_line import terminal
from flows.command_line.show import hits_text
from flows.command_line.terminal import bar_columns, count_shown, snapshots_drawn
from flows.command_line.text.tables import table_text
from tasks.domain.target.collection import Hit
from tasks.run.progress import Journal

KEY = "47212c790ed6b41534f3a49b2fb7adb3"
ROWS = [("0.717", KEY, "A tent for windy beaches, and \x1b[31ma bag\n(sku=SKU-1, price=9.5)"), ("0.7", "b", "短い")]


class Screen(io.StringIO):
    """A terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120, 200])
def test_a_table_shows_every_word_and_no_line_is_wider_unless_the_terminal_breaks_it(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = table_text(("score", "id", "content"), ROWS, to=Screen())
    assert "\x1b" not in shown
    assert "…" not in shown
    assert all(word in shown for word in (KEY, "0.717", "windy", "beaches", "sku=SKU-1", "price=9.5", "短い"))
    if columns < 70:
        assert shown.startswith(f"score    0.717\nid       {KEY}\ncontent  A tent")
        assert "\n         (sku=SKU-1, price=9.5)\n\nscore    0.7\n" in shown
    else:
        assert "\u2503" in shown.splitlines()[0]
        assert max(map(len, shown.splitlines())) <= min(columns, 120)


def test_a_file_gets_the_table_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    hit = Hit(id=KEY, score=0.5, fields={"text": "a tent", "sku": "SKU-1"})
    assert hits_text([hit]).splitlines()[0].split() == ["score", "\u2503", "id", "\u2503", "content"]


def drawn(columns: int, line: str, phase: str = "encode") -> str:
    screen = Screen()
    console = Console(file=screen, width=columns, force_terminal=True, color_system=None)
    with Progress(*bar_columns(), console=console, transient=False, auto_refresh=False) as bar:
        bar.add_task(phase, total=10, completed=5, line=line)
        bar.refresh()
    return screen.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_bar_makes_room_for_the_words(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    line = "4,621 of about 8,998 rows, 79 rows/s, 0:55 left, 4,000 loaded"
    monkeypatch.setattr(terminal.errors, "_width", columns)
    shown = drawn(columns, line)
    assert "…" not in shown
    assert "encode" in shown
    assert all(word in shown for word in line.split())
    assert "\u2501" in drawn(columns, "12 s")
    assert ("\u2501" in shown) == (columns - len(line) > 18)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich draws nothing there, so that a run would be silent."""
    screen = Screen()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stderr", screen)
    with snapshots_drawn() as draw:
        draw(Journal(stage="plan").snapshot())
    assert screen.getvalue() == "plan: 0 s\n"
    assert "\x1b" not in screen.getvalue()
    with count_shown() as count:
        count("listing", 5, None)
    assert "listing" not in screen.getvalue(), "a short operation says nothing"
