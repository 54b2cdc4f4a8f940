"""Which prompt and route texts take through a sentence-transformers model: rows as its `encode_document`, questions as its `encode_query`.

Read from the model's own files, so that the fingerprint knows what the worker does without loading it.
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
    """How the model is given texts. `prompt`: what stands before each; `task`: what a Router chooses its route by, None without one."""

    prompt: str
    name: str | None = None  # of the prompt, where the model brings it
    task: str | None = None

    def __str__(self) -> str:
        shown = self.prompt if len(self.prompt) <= SHOWN else self.prompt[: SHOWN - 3] + "..."
        told = f"prompt {shown!r}" if self.prompt else "no prompt"
        return (
            told + (f" (the model's '{self.name}')" if self.name and self.prompt else "") + (f", route '{self.task}'" if self.task else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Of the rows and of the questions. `earlier`: what versions did that embedded both alike."""

    rows: Side
    questions: Side
    earlier: Side
    unused: str | None = None  # a prompt for rows that `encode_document` passes over

    @property
    def changed(self) -> dict[str, JsonValue]:
        """What of the rows' side is in no setting and not as in earlier versions: an identity names it, and so keeps the vectors apart."""
        prompt: dict[str, JsonValue] = {"document_prompt": self.rows.prompt} if self.rows.prompt != self.earlier.prompt else {}
        route: dict[str, JsonValue] = {"document_route": self.rows.task} if self.rows.task != self.earlier.task else {}
        return {**prompt, **route}

    @property
    def told(self) -> str:
        """In words; "" where no prompt is used."""
        if not any((self.rows.prompt, self.questions.prompt, self.rows.task, self.questions.task, self.unused)):
            return ""
        told = f"rows: {self.rows}; questions: {self.questions}"
        return told + (f"; its prompt '{self.unused}' is not used: set encoder.prompt_name if it is meant for rows" if self.unused else "")


def sides_of(encoder: TextModelEncoder, folder: Path) -> Sides:
    """What a model's folder and the job's settings make of rows and of questions.

    Raises:
        BadInput: the job names a prompt that the model does not bring.
    """
    config = read_json(folder / "config_sentence_transformers.json")
    prompts = {str(name): text for name, text in (config.get("prompts") or {}).items() if isinstance(text, str)}
    routes = _Routes.of(folder)
    rows = _side(prompts, "prompt", encoder.prompt, encoder.prompt_name, "document")
    questions = _side(prompts, "query_prompt", encoder.query_prompt, encoder.query_prompt_name, "query")
    # An empty prompt was none then, and without one the library takes the default.
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


def _side(prompts: Mapping[str, str], setting: str, prompt: str | None, name: str | None, usual: str) -> Side:
    """The library's own rule: `document` and `query` are always among its prompts, empty where the model does not bring them."""
    if prompt is not None:
        return Side(prompt=prompt)
    if name is not None and (name not in prompts or not any(prompts.values())):
        there = ", ".join(name for name, text in prompts.items() if text) or "none"
        raise BadInput(f"encoder.{setting}_name '{name}': the model brings no such prompt (it has: {there})")
    chosen = name or usual
    return Side(prompt=prompts.get(chosen, ""), name=chosen)


def _routed(side: Side, routes: _Routes | None, task: str) -> Side:
    """`task` is left out where it is the default route, as in earlier versions."""
    if routes is None or routes.of_task(task) in {None, routes.of_task(None)}:
        return side
    return Side(prompt=side.prompt, name=side.name, task=task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routes:
    """A Router's configuration, read as the library reads it for texts."""

    names: tuple[str, ...]
    default: str | None
    mapped: Mapping[tuple[str | None, str | None], str]

    @classmethod
    def of(cls, folder: Path) -> _Routes | None:
        """Of the model's first module; None where that is no Router."""
        first = next(iter(modules_of(folder)), None)
        if first is None or not first[1].endswith((".Router", ".Asym")):
            return None
        place = folder / first[0]
        config = read_json(place / "router_config.json") or read_json(place / "config.json")
        names = tuple(config.get("structure") or {})
        told: Mapping[str, Any] = config.get("parameters") or {}
        default = told.get("default_route") or (names[0] if names and told.get("allow_empty_key", True) else None)
        mapped = {}
        for key, route in (told.get("route_mappings") or {}).items():
            with suppress(ValueError, SyntaxError, TypeError):
                mapped[ast.literal_eval(key)] = str(route)
        return cls(names=names, default=default, mapped=mapped)

    def of_task(self, task: str | None) -> str | None:
        """The route of texts with a task; None: there is none."""
        for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
            if key in self.mapped:
                return self.mapped[key]
        known = next((name for name in (task, "text") if name in self.names), None)
        return known or (self.default if task is None else None)


def modules_of(folder: Path) -> list[tuple[str, str]]:
    """(path, type) of each module of a sentence-transformers model; none where it is a bare transformer."""
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [(str(module["path"]), str(module["type"])) for module in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; empty where there is none to be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
