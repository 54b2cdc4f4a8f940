"""Formats usage errors as one line, as other errors, and help so that a narrow terminal does not truncate it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from flows.command_line.terminal import errors
from tasks.domain.job.parse import explain_value

SENTENCE = 1_000  # characters
NARROW = 80  # columns below which rich's boxes truncate options


def help_settings() -> dict[str, Any]:
    """Return the width of plain help: click's minimum of 50 columns would break words on a narrower terminal."""
    return {"terminal_width": max(20, min(shutil.get_terminal_size().columns, NARROW) - 2)}


def help_style() -> Literal["rich"] | None:
    """Return rich's style if it fits; None, for plain paragraphs without truncation, on a narrow or dumb terminal."""
    plain = shutil.get_terminal_size().columns < NARROW or os.environ.get("TERM") == "dumb"
    return None if plain else "rich"


class OneLineErrors(TyperGroup):
    """Reports a wrong command, option or value in one line instead of a box."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Parse the options of every command."""
        with _errors_in_one_line():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of one command, and run it."""
        with _errors_in_one_line():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command's purpose as a whole sentence: plain help would otherwise truncate it."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=SENTENCE)) for name, command in commands.items() if command])


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except typer.TyperException as mistake:
        context = getattr(mistake, "ctx", None)
        if type(mistake).__name__ == "NoArgsIsHelpError":  # not an error: a command without arguments prints its help
            raise
        errors.print("[bold red]error:[/] ", end="")
        errors.print(_line(mistake, context), markup=False)
        raise typer.Exit(mistake.exit_code) from None


def _line(mistake: typer.TyperException, context: Any) -> str:
    what = _value(mistake, mistake.__cause__) if isinstance(mistake.__cause__, ValidationError) else mistake.format_message()
    help_of = f" (`{context.command_path} --help` says more)" if context is not None else ""
    return f"{what[:1].lower()}{what[1:].rstrip('.')}{help_of}"


def _value(mistake: Any, error: ValidationError) -> str:
    """Explain an invalid value of an option as for a job file."""
    option = max(mistake.param.opts, key=len) if mistake.param.opts[0].startswith("-") else mistake.param.metavar
    return explain_value(error, option)
