"""Output of commands: results on stdout, one line and an exit code for every error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NoReturn

import typer

from flows.command_line.process_setup import takes_unicode
from flows.command_line.terminal import command_log, errors
from tasks.domain.errors import BadInput, KitestringError, RunFailed
from tasks.domain.job.credentials import without_credentials

OK, FAILED, BAD_INPUT, NOT_YET, NOT_PROVED = 0, 1, 2, 3, 4


@contextmanager
def answers(*, as_json: bool = False) -> Iterator[None]:
    """Convert the errors of a command into one line and an exit code."""
    try:
        yield
    except RunFailed as failure:
        if as_json:
            say(failure.summary, as_json=True)
        leave(failure, FAILED)
    except BadInput as mistake:
        leave(mistake, BAD_INPUT)
    except KitestringError as error:
        leave(error, FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        code = BAD_INPUT if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError | IsADirectoryError) else FAILED
        leave(OSError(f"cannot use '{error.filename}': {error.strerror}"), code)
    except KeyboardInterrupt:
        errors.print("interrupted; run the command again to resume")
        raise typer.Exit(130) from None


def leave(error: Exception, code: int) -> NoReturn:
    """Print the error and exit with the code."""
    errors.print("[bold red]error:[/] ", end="")
    errors.print(without_credentials(str(error)), markup=False)
    command_log.error("%s", error)
    raise typer.Exit(code) from None


def say(answer: Any, *, as_json: bool, text: Callable[[Any], str] = str) -> None:
    """Print the result on stdout."""
    sys.stdout.write((_as_json(answer) if as_json else text(answer)) + "\n")
    sys.stdout.flush()


def _as_json(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=not takes_unicode(sys.stdout), default=str)


def say_each(values: Iterable[Any], *, as_json: bool, text: Callable[[Any], str]) -> int:
    """Print values on stdout as they arrive; return their number."""
    count = 0
    for count, value in enumerate(values, 1):
        begin = "" if not as_json else "[" if count == 1 else ","
        sys.stdout.write(begin + (_as_json(asdict(value)) if as_json else text(value)) + "\n")
    if as_json:
        sys.stdout.write("]\n" if count else "[]\n")
    sys.stdout.flush()
    return count
