"""Every option that takes a choice or a bounded number refuses another value in one line; help is whole at any width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from flows.command_line import cli
from flows.command_line.text.usage import OneLineErrors, help_settings, help_style


def commands(group: Any = None, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in (group or get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def wrong_values() -> Iterator[tuple[tuple[str, ...], str, str, str]]:
    """A command, an option of it, a value that it may not have, and a word of the answer."""
    for path, command in commands():
        for option in command.params:
            kinds = [kind for kind in (option.type_descriptor.annotation, *get_args(option.type_descriptor.annotation)) if kind]
            if choices := next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), None):
                yield path, option.opts[0], "neither", repr(choices[-1])
            elif option.opts[0].startswith("-") and not option.count and ({int, float} & set(kinds)):
                yield path, option.opts[0], "many", "a number" if float in kinds else "an integer"
                yield from ((path, option.opts[0], str(least - 1), f"at least {least}") for least in [option.min] if least is not None)
                yield from ((path, option.opts[0], str(most + 1), f"at most {most}") for most in [option.max] if most is not None)


@pytest.mark.parametrize(("path", "option", "value", "word"), [*wrong_values()])
def test_a_value_that_an_option_may_not_have_is_told_in_one_line(path: tuple[str, ...], option: str, value: str, word: str) -> None:
    answer = CliRunner().invoke(cli.app, [*path, "job.yaml", option, value])
    assert (answer.exit_code, answer.stdout) == (2, "")
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"error: {option}")
    assert word in line
    assert repr(value) in line
    assert "Value error" not in line


def test_there_are_such_options() -> None:
    assert {option for _, option, _, _ in wrong_values()} >= {"--mode", "-k", "--rrf", "--port", "--seed", "--minutes"}


@pytest.mark.parametrize("columns", [40, 60, 79])
def test_narrow_help_is_plain_and_whole(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    app = typer.Typer(cls=OneLineErrors, no_args_is_help=True, rich_markup_mode=help_style(), context_settings=help_settings())
    app.registered_commands, app.registered_groups = cli.app.registered_commands, cli.app.registered_groups
    for path in [(), *(path for path, _ in commands())]:
        shown = CliRunner().invoke(app, [*path, "--help"])
        assert shown.exit_code == 0
        lines = shown.stdout.splitlines()
        assert "…" not in shown.stdout
        assert not [line for line in lines if line.endswith("...") and "[ARGS]" not in line]
        assert max(map(len, lines)) <= max(columns, 50)
    assert "--mode <dense|text|hybrid|sparse>" in CliRunner().invoke(app, ["search", "--help"]).stdout


def test_help_has_its_boxes_where_they_fit_and_none_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    assert help_style() == "rich"
    monkeypatch.setenv("TERM", "dumb")
    assert help_style() is None
