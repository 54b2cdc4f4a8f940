"""Kitestring's flows and its command line: they name the stages and wire them."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _check_tasks() -> None:
    """Say whose `tasks` is found where it is not ours: celery's and invoke's users have a `tasks.py`, and its errors would tell nobody why.

    Raises:
        ImportError: a module of that name stands before ours on the path.
    """
    spec = find_spec("tasks")
    if spec is None or spec.origin is None or Path(spec.origin).parent.parent == Path(__file__).parent.parent:
        return
    wrong = f"{spec.origin} is found in place of Kitestring's own package 'tasks': take its folder out of PYTHONPATH, or run elsewhere"
    if Path(sys.argv[0]).name in {"kitestring", "-m"}:
        sys.stderr.write(f"error: {wrong}\n")
        raise SystemExit(2)
    raise ImportError(wrong)


_check_tasks()
