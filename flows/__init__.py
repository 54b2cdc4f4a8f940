"""Kitestring's flows, which run the stages in order, and its command line."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _check_tasks() -> None:
    """Check that `tasks` is Kitestring's package: users of celery and invoke have a `tasks.py`, and its errors would hide the cause.

    Raises:
        ImportError: another module of that name comes first on the path.
    """
    spec = find_spec("tasks")
    if spec is None or spec.origin is None or Path(spec.origin).parent.parent == Path(__file__).parent.parent:
        return
    message = f"{spec.origin} shadows Kitestring's package 'tasks': remove its folder from PYTHONPATH, or run in another folder"
    if Path(sys.argv[0]).name in {"kitestring", "-m"}:
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(2)
    raise ImportError(message)


_check_tasks()
