"""A mistake in the words of a command: one line, as every other mistake; and help that a narrow terminal does not cut off."""

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
NARROW = 80  # columns below which rich's boxes cut off options


def help_settings() -> dict[str, Any]:
    """How wide plain help is: click makes it 50 columns at least, which a narrower terminal breaks in the middle of words."""
    return {"terminal_width": max(20, min(shutil.get_terminal_size().columns, NARROW) - 2)}


def help_style() -> Literal["rich"] | None:
    """Boxes and colours where they fit; plain paragraphs, in which nothing is cut off, on a narrow or a dumb terminal."""
    plain = shutil.get_terminal_size().columns < NARROW or os.environ.get("TERM") == "dumb"
    return None if plain else "rich"


class OneLineMistakes(TyperGroup):
    """A wrong command, option or value is told in one line instead of a box."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """The options of every command are read here."""
        with _told():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """And those of one command here."""
        with _told():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """What each is for, as a whole sentence: for plain help, which breaks off after some words otherwise."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=SENTENCE)) for name, command in commands.items() if command])


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except typer.TyperException as mistake:
        context = getattr(mistake, "ctx", None)
        if type(mistake).__name__ == "NoArgsIsHelpError":  # no mistake: a command that stands alone prints its help
            raise
        errors.print("[bold red]error:[/] ", end="")
        errors.print(_line(mistake, context), markup=False)
        raise typer.Exit(mistake.exit_code) from None


def _line(mistake: typer.TyperException, context: Any) -> str:
    what = _value(mistake, mistake.__cause__) if isinstance(mistake.__cause__, ValidationError) else mistake.format_message()
    help_of = f" (`{context.command_path} --help` says more)" if context is not None else ""
    return f"{what[:1].lower()}{what[1:].rstrip('.')}{help_of}"


def _value(mistake: Any, error: ValidationError) -> str:
    """A value that an option may not have, in the words of a job file."""
    option = max(mistake.param.opts, key=len) if mistake.param.opts[0].startswith("-") else mistake.param.metavar
    return explain_value(error, option)
