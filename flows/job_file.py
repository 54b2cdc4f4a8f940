"""Reads a job file from a path, a URI or a Prefect variable, and applies overrides.

A job file may come from anyone who can write to a repository or a form, so reading is bounded: in bytes, in depth, and in the number
of values after alias expansion. A duplicate key is refused: YAML would silently use the last one.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from tasks.adapters.files.local_files import is_local, local_path
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override_document, parse_job

JOB_FILE_BYTES, JOB_FILE_DEPTH, JOB_FILE_VALUES = 1 << 20, 40, 20_000


VARIABLE = "variable:"  # prefix of the name of a Prefect variable that holds a job


def read_job(place: Path | str, settings: list[str] | None) -> Job:
    """Read a job file and apply overrides.

    Args:
        place: a path, a URI such as s3://bucket/job.yaml, or variable:NAME for a Prefect variable.
        settings: overrides in the form path.to.key=value.

    Raises:
        BadInput: the file is missing, not YAML, too large, or not a job.
    """
    place = str(place)
    document = _variable(place.removeprefix(VARIABLE)) if place.startswith(VARIABLE) else _parse(_read(place), f"the job file '{place}'")
    if not isinstance(document, dict):
        raise BadInput(f"the job file '{place}' is empty or not a mapping: it needs keys such as corpus, source and target")
    document.pop("$schema", None)  # for editors
    return parse_job(override_document(document, dict(_setting(text) for text in settings or [])))


def _variable(name: str) -> Any:
    """Return the value of a Prefect variable: a job, or the parsed text of a job file."""
    from prefect.variables import Variable  # noqa: PLC0415 - a command imports Prefect only once its server is known

    value = Variable.get(name)
    if value is None:
        raise BadInput(f"there is no Prefect variable '{name}': make it, or name a job file")
    return _parse(value, f"the Prefect variable '{name}'") if isinstance(value, str) else value


def _read(place: str) -> str:
    local = is_local(place)
    try:
        with Path(local_path(place)).open("rb") if local else _opened(place) as file:
            content: bytes = file.read(JOB_FILE_BYTES + 1)
        if len(content) > JOB_FILE_BYTES:
            raise BadInput(f"the job file '{place}' is larger than {JOB_FILE_BYTES >> 20} MiB: is it a job file?")
        return content.decode()
    except FileNotFoundError as error:
        here = f" in {Path.cwd()}" if local and not Path(place).is_absolute() else ""
        raise BadInput(f"there is no job file '{place}'{here}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the job file '{place}' cannot be read: {error}") from error


def _opened(uri: str) -> AbstractContextManager[Any]:
    from tasks.adapters.files.access import open_file  # noqa: PLC0415 - imports Arrow, which a local file does not need

    opened: AbstractContextManager[Any] = open_file(uri)
    return opened


def _setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise BadInput(f"--set {text}: write it as path.to.key=value")
    try:
        return path.strip(), _parse(value, f"--set {path.strip()}: the value")
    except _NotYaml:
        raise BadInput(f"--set {text}: what follows the = is not YAML: put it in quotes, or close its brackets") from None


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_Bounded)  # noqa: S506 - a SafeLoader
    except _Refused as refused:
        raise BadInput(f"{what} {refused}") from None
    except yaml.YAMLError as error:
        raise _NotYaml(f"{what} is not YAML: {_why_not_yaml(error)}") from error


def _why_not_yaml(error: yaml.YAMLError) -> str:
    if "'\\t'" in str(error) and isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} has a tab, which YAML does not allow: indent with spaces"
    return " ".join(str(error).split())


class _NotYaml(BadInput):
    """Text that is not YAML."""


class _Refused(Exception):
    """YAML that exceeds a bound or is invalid. The message has the reason and the line."""

    def __init__(self, reason: str, node: yaml.Node | yaml.Event) -> None:
        where = f" (line {node.start_mark.line + 1})" if node.start_mark else ""
        super().__init__(f"{reason}{where}")


class _Bounded(yaml.SafeLoader):
    """PyYAML's safe loader, with bounds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}  # number of values in each complete node, with aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > JOB_FILE_DEPTH:
            raise _Refused(f"is nested more than {JOB_FILE_DEPTH} levels deep", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            self._count(node, event)
        return node

    def _count(self, node: yaml.Node, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise _Refused("refers to itself by an alias", event)
            return
        inner = [value for pair in node.value for value in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = sum(self._sizes[value] for value in inner) if isinstance(node, yaml.CollectionNode) else 0
        self._sizes[node] = 1 + below
        if self._sizes[node] > JOB_FILE_VALUES:
            raise _Refused(f"holds more than {JOB_FILE_VALUES:,} values, aliases written out", event)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as an integer of thousands of digits, or the 40th of May
            raise _Refused(f"holds a value that cannot be read, {str(error).partition(';')[0]}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Refused(f"has the key '{key.value}' twice", key)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
