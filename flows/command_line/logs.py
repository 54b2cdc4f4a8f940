"""Logging of commands: more messages on the terminal (`-v`), all messages in a file (`--log-file`)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_line.terminal import command_log, errors
from flows.command_line.text.usage import OneLineErrors
from tasks.adapters.processes.hardware import version_of
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import without_credentials

OURS = "kitestring"
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Show more messages; -vv: also each retried request.")]
LogFile = Annotated[Path | None, typer.Option("--log-file", metavar="FILE", help="Append all messages and the progress to a file.")]


class OptionsAnywhere(OneLineErrors):
    """Accepts `-v` and `--log-file` after the command as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options of every command to the front."""
        first, rest = list[str](), list[str]()
        left = iter(args)
        for arg in left:
            if arg == "--":
                rest += [arg, *left]
            elif arg in {"-v", "-vv", "--verbose"} or arg.startswith("--log-file="):
                first.append(arg)
            elif arg == "--log-file":
                first += [arg, *([value] if (value := next(left, None)) else [])]
            else:
                rest.append(arg)
        return super().parse_args(ctx, [*first, *rest])


class _Lines(logging.Formatter):
    """Time (UTC), level, logger and message, without credentials."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


class _OnTerminal(logging.Handler):
    """Prints messages below a warning above the progress bar; warnings are printed by another handler."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            errors.print(without_credentials(record.getMessage()), markup=False)


@contextmanager
def logged(verbose: int, file: Path | None) -> Iterator[None]:
    """Log to the terminal and the file as requested, for the duration of the block.

    Raises:
        BadInput: the file cannot be written.
    """
    added: list[tuple[logging.Logger, logging.Handler]] = []
    ours, root = logging.getLogger(OURS), logging.getLogger()
    before = ours.level
    if verbose:
        ours.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
        added.append((ours, _OnTerminal(ours.level)))
    if file:
        to_file = _opened(file)
        ours.setLevel(min(ours.level or logging.INFO, logging.INFO))
        command_log.setLevel(logging.INFO)
        added += [(root, to_file), (command_log, to_file)]
        added += [] if ours.propagate else [(ours, to_file)]
    for logger, handler in added:
        logger.addHandler(handler)
    command_log.info("kitestring %s: %s", version_of(OURS) or "(a checkout)", " ".join(sys.argv[1:]))
    try:
        yield
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)
            handler.close()
        ours.setLevel(before)


def _opened(file: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--log-file: '{file}' cannot be written: {error.strerror}") from error
    handler.setFormatter(_Lines())
    return handler
