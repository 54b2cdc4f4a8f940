"""Prompts and routes of a sentence-transformers model: rows as in its `encode_document`, questions as in its `encode_query`.

Read from the model's own files, so that the fingerprint covers them without loading the model.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import TextModelEncoder

SHOWN = 60  # characters of a prompt in a message
NAMES_FOR_ROWS = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How texts are passed to the model. `prompt` precedes each text; `task` selects a Router's route, None without a Router."""

    prompt: str
    name: str | None = None  # of the prompt, if the model defines it
    task: str | None = None

    def __str__(self) -> str:
        shown = self.prompt if len(self.prompt) <= SHOWN else self.prompt[: SHOWN - 3] + "..."
        label = f"prompt {shown!r}" if self.prompt else "no prompt"
        return (
            label + (f" (the model's '{self.name}')" if self.name and self.prompt else "") + (f", route '{self.task}'" if self.task else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The sides of rows and of questions. `earlier`: the side of older versions, which embedded both alike."""

    rows: Side
    questions: Side
    earlier: Side
    unused: str | None = None  # a prompt for rows that `encode_document` ignores

    @property
    def changed(self) -> dict[str, JsonValue]:
        """The rows' prompt and route if they come from no setting and differ from earlier versions: part of the identity, to keep vectors apart."""
        prompt: dict[str, JsonValue] = {"document_prompt": self.rows.prompt} if self.rows.prompt != self.earlier.prompt else {}
        route: dict[str, JsonValue] = {"document_route": self.rows.task} if self.rows.task != self.earlier.task else {}
        return {**prompt, **route}

    @property
    def description(self) -> str:
        """Prompts and routes for messages; "" if none is used."""
        if not any((self.rows.prompt, self.questions.prompt, self.rows.task, self.questions.task, self.unused)):
            return ""
        text = f"rows: {self.rows}; questions: {self.questions}"
        return text + (f"; its prompt '{self.unused}' is not used: set encoder.prompt_name if it is meant for rows" if self.unused else "")


def sides_of(encoder: TextModelEncoder, folder: Path) -> Sides:
    """Return the prompts and routes of rows and questions, from a model's folder and the job's settings.

    Raises:
        BadInput: the job names a prompt that the model does not define.
    """
    config = read_json(folder / "config_sentence_transformers.json")
    prompts = {str(name): text for name, text in (config.get("prompts") or {}).items() if isinstance(text, str)}
    routes = _Routes.of(folder)
    rows = _side(prompts, "prompt", encoder.prompt, encoder.prompt_name, "document")
    questions = _side(prompts, "query_prompt", encoder.query_prompt, encoder.query_prompt_name, "query")
    # Earlier versions passed no empty prompt, and without a prompt the library uses its default.
    default = prompts.get(str(config.get("default_prompt_name"))) or ""
    named = prompts.get(encoder.prompt_name or "") or default
    earlier = Side(prompt=encoder.prompt if encoder.prompt is not None else named, task=None)
    declared = encoder.prompt is not None or encoder.prompt_name is not None
    unused = next((name for name in NAMES_FOR_ROWS if prompts.get(name)), None)
    return Sides(
        rows=_routed(rows, routes, "document"),
        questions=_routed(questions, routes, "query"),
        earlier=earlier,
        unused=None if declared or rows.prompt else unused,
    )


def _side(prompts: Mapping[str, str], setting: str, prompt: str | None, name: str | None, default_name: str) -> Side:
    """Apply the library's own rule: `document` and `query` are always among its prompts, empty if the model does not define them."""
    if prompt is not None:
        return Side(prompt=prompt)
    if name is not None and (name not in prompts or not any(prompts.values())):
        available = ", ".join(name for name, text in prompts.items() if text) or "none"
        raise BadInput(f"encoder.{setting}_name '{name}': the model defines no such prompt (it has: {available})")
    chosen = name or default_name
    return Side(prompt=prompts.get(chosen, ""), name=chosen)


def _routed(side: Side, routes: _Routes | None, task: str) -> Side:
    """Add the task, unless it selects the default route, as in earlier versions."""
    if routes is None or routes.of_task(task) in {None, routes.of_task(None)}:
        return side
    return Side(prompt=side.prompt, name=side.name, task=task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routes:
    """A Router's configuration, interpreted as the library does for texts."""

    names: tuple[str, ...]
    default: str | None
    mapped: Mapping[tuple[str | None, str | None], str]

    @classmethod
    def of(cls, folder: Path) -> _Routes | None:
        """Read the configuration of the model's first module; None if that is no Router."""
        first = next(iter(modules_of(folder)), None)
        if first is None or not first[1].endswith((".Router", ".Asym")):
            return None
        module = folder / first[0]
        config = read_json(module / "router_config.json") or read_json(module / "config.json")
        names = tuple(config.get("structure") or {})
        parameters: Mapping[str, Any] = config.get("parameters") or {}
        default = parameters.get("default_route") or (names[0] if names and parameters.get("allow_empty_key", True) else None)
        mapped = {}
        for key, route in (parameters.get("route_mappings") or {}).items():
            with suppress(ValueError, SyntaxError, TypeError):
                mapped[ast.literal_eval(key)] = str(route)
        return cls(names=names, default=default, mapped=mapped)

    def of_task(self, task: str | None) -> str | None:
        """Return the route of texts with a task, or None."""
        for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
            if key in self.mapped:
                return self.mapped[key]
        known = next((name for name in (task, "text") if name in self.names), None)
        return known or (self.default if task is None else None)


def modules_of(folder: Path) -> list[tuple[str, str]]:
    """Return (path, type) of each module of a sentence-transformers model; empty for a bare transformer."""
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [(str(module["path"]), str(module["type"])) for module in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty if that fails."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
