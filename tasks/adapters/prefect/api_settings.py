"""Finds the address of the user's configured Prefect server without importing Prefect (which takes seconds)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import dotenv  # a dependency of Prefect, which reads .env with it

from tasks.domain.errors import BadInput


def configured_api() -> str | None:
    """The API URL that the user has configured, or None; reads Prefect's settings sources in Prefect's order, without importing it.

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
        raise BadInput(f"{path} cannot be read ({error}): Prefect reads its settings from it; correct or remove it") from error


def _table(content: dict[str, object], *names: str) -> dict[str, object]:
    for name in names:
        inner = content.get(name)
        content = inner if isinstance(inner, dict) else {}
    return content
