"""Entry of the console script, and a pull step of deployments: checks that `flows` and `tasks` are Kitestring's packages.

Others use these names as well (celery and invoke expect a `tasks.py`), and a folder in PYTHONPATH precedes installed packages.
This module imports neither package before the check, so that no other code runs in place of Kitestring's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

OURS = ("flows", "tasks")


def check_packages() -> None:
    """Check that both packages are beside this one, or in the checkout that it is installed from.

    Raises:
        ImportError: another module of that name comes first; the message names its path and a remedy.
    """
    here = Path(__file__).resolve().parent
    root = next((root for root in (here.parent, here.parents[2]) if (root / "flows").is_dir()), here.parent)
    for name in OURS:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != root / name / "__init__.py":
            raise ImportError(
                f"{origin} shadows Kitestring's package '{name}': remove its folder from PYTHONPATH, or run in another folder"
                if origin
                else f"Kitestring's own package '{name}' is not in {root}: install Kitestring again"
            )


def main() -> None:
    """The command `kitestring`."""
    try:
        check_packages()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    from flows.command_line.cli import main as command  # noqa: PLC0415 - only after the check

    command()


if __name__ == "__main__":
    main()
