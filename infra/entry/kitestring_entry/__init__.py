"""The console script's entry, and a step of deployments before their flow is imported: whose `flows` and `tasks` would be imported?

Those are names that others use as well (celery and invoke want a `tasks.py`), and a folder in PYTHONPATH comes before what is installed.
This module imports neither before it knows, so that nobody else's code is run in place of Kitestring's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

OURS = ("flows", "tasks")


def check_packages() -> None:
    """Find both packages beside this one, or in the checkout that it is installed from.

    Raises:
        ImportError: a module of that name comes before ours; names its path and what to do.
    """
    here = Path(__file__).resolve().parent
    root = next((root for root in (here.parent, here.parents[2]) if (root / "flows").is_dir()), here.parent)
    for name in OURS:
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != root / name / "__init__.py":
            raise ImportError(
                f"{found} is found in place of Kitestring's own package '{name}': take its folder out of PYTHONPATH, or run elsewhere"
                if found
                else f"Kitestring's own package '{name}' is not in {root}: install Kitestring again"
            )


def main() -> None:
    """The command `kitestring`."""
    try:
        check_packages()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    from flows.command_line.cli import main as command  # noqa: PLC0415 - it is known to be ours by now

    command()


if __name__ == "__main__":
    main()
