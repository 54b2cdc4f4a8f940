"""The address of a Prefect server that the user has configured, found without importing Prefect (which takes seconds)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import dotenv  # as Prefect does: it comes with Prefect

from tasks.domain.errors import BadInput


def configured_api() -> str | None:
    """The Prefect server that the user has configured, or None; looks where Prefect looks, in its order, without importing it.

    Raises:
        BadInput: a settings file is not TOML.
    """
    for settings in (dict(os.environ), _dotenv(), _prefect_toml(), _profile()):
        if api := settings.get("PREFECT_API_URL"):
            return str(api)
    return None


def prefect_home() -> Path:
    """The folder in which Prefect keeps its settings and its database."""
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


def _profile() -> dict[str, object]:
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    profiles = _read_toml(path)
    active = os.environ.get("PREFECT_PROFILE") or str(profiles.get("active"))
    return _table(profiles, "profiles", active)


def _prefect_toml() -> dict[str, object]:
    for table in (_table(_read_toml(Path("prefect.toml")), "api"), _table(_read_toml(Path("pyproject.toml")), "tool", "prefect", "api")):
        if "url" in table:
            return {"PREFECT_API_URL": table["url"]}
    return {}


def _dotenv() -> dict[str, str | None]:
    return dotenv.dotenv_values(".env") if Path(".env").is_file() else {}


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): Prefect looks there for its settings; correct it or take it away") from error


def _table(content: dict[str, object], *names: str) -> dict[str, object]:
    for name in names:
        inner = content.get(name)
        content = inner if isinstance(inner, dict) else {}
    return content
