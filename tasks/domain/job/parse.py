"""From what a user wrote to a Job, and from pydantic's errors to one line for a person."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import FREE_OF_CREDENTIALS
from tasks.domain.job.job import NAME, Job
from tasks.domain.job.kinds import Kinds
from tasks.domain.job.services import REDIS, URL
from tasks.domain.job.target import COLLECTION
from tasks.domain.job.texts.chunks import SPLIT
from tasks.domain.job.texts.text_format import ONE_CHARACTER, ONE_DELIMITER


def parse_job(document: object) -> Job:
    """Make a Job of a parsed job file.

    Raises:
        BadInput: names the key, what is wrong with it and, for an unknown one, the nearest that exists.
    """
    if not isinstance(document, Mapping):
        raise BadInput("a job is a mapping of keys such as corpus, source, encoder, checkpoint and target")
    try:
        return Job.model_validate(document)
    except ValidationError as error:
        raise BadInput(explain_errors(error)) from error


def override(job: Job, settings: Mapping[str, Any]) -> Job:
    """The job with single settings replaced, by their dotted path; neighbours keep their values.

    Raises:
        BadInput: no such setting, or not a value for it.
    """
    return parse_job(override_document(job.model_dump(mode="json"), settings)) if settings else job


def override_document(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A parsed job file with settings replaced by their dotted path."""
    changed = deepcopy(dict(document))
    for path, value in settings.items():
        *parents, last = path.split(".")
        place = changed
        for key in parents:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise BadInput(f"'{path}': '{key}' is a single value, it has no settings below it")
            place = inner
        if last == "kind" and place.get("kind") != value:
            place.clear()  # another kind has other settings
        place[last] = value
    return changed


def explain_errors(error: ValidationError, root: type[BaseModel] = Job) -> str:
    """One line; alternatives of one setting (`auto` or a number) are joined. `root`: the model that was validated."""
    wanted: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    told: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, model = _walk(detail["loc"], root)
        must = _MUST.get(detail["type"])
        if must:
            wanted.setdefault(path, []).append(must.format(**detail.get("ctx", {})))
            given[path] = detail["input"]
        else:
            told.setdefault(path, []).append(_explain(detail, path, model))
    meant = [path for path in wanted if not (isinstance(given[path], Mapping) and (path in told or _is_told_below(path, [*wanted, *told])))]
    lines = [f"'{path}' must be {' or '.join(dict.fromkeys(wanted[path]))}, not {_short(given[path])}" for path in meant]
    others = [" or ".join([first, *(other.removeprefix(f"'{path}': ") for other in rest)]) for path, (first, *rest) in told.items()]
    return "; ".join([*lines, *others])


def explain_value(error: ValidationError, name: str) -> str:
    """What is wrong with a value that stands alone, such as that of an option."""
    detail = error.errors(include_url=False)[0]
    must = _MUST.get(detail["type"])
    if must:
        return f"{name} must be {must.format(**detail.get('ctx', {}))}, not {_short(detail['input'])}"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"


def _is_told_below(path: str, paths: Iterable[str]) -> bool:
    """Whether what is wrong with some settings is in them, so that nobody meant to leave them out or to write a word in their place."""
    return any(other.startswith(f"{path}.") for other in paths)


# pydantic's types of errors, in the words of a job file.
_MUST = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "an integer"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of settings"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    "string_type": "a text",
    "string_too_short": "a text of at least {min_length} character(s)",
    "none_required": "left out",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}
WRONG_VALUE_CHARACTERS = 60  # characters of a wrong value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= WRONG_VALUE_CHARACTERS else f"{text[:WRONG_VALUE_CHARACTERS]}..."


# What a pattern stands for.
MEANT = {
    NAME: "a name of letters, digits, dots, dashes and underscores that begins with a letter or a digit",
    COLLECTION: "a name of letters, digits and underscores that begins with a letter or an underscore",
    URL: "an address that begins with http:// or https://, without user, query and fragment",
    REDIS: "an address such as redis://host:6379/0, or rediss:// for TLS",
    SPLIT: "text, markdown or code:<language>, such as code:python",
    ONE_DELIMITER: 'one character (ASCII, or a tab as "\\t") or auto',
    ONE_CHARACTER: "one ASCII character or empty",
    FREE_OF_CREDENTIALS: "a place without a password, a token or a key (those come from the worker's environment or a Secret block)",
}


def _explain(detail: Any, path: str, model: type[BaseModel] | None) -> str:
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"'{path}' is not a setting{_nearest(key, model)}"
    if detail["type"] == "union_tag_invalid":
        there = detail["ctx"]["expected_tags"]
        near = difflib.get_close_matches(detail["ctx"]["tag"], there.replace("'", "").split(", "), 1, cutoff=0.5)
        return f"'{path}.kind' is {detail['ctx']['tag']!r}, it must be one of {there}{f'; did you mean {near[0]!r}?' if near else ''}"
    if detail["type"] == "missing":
        return f"'{path}' must be given"
    if detail["type"] == "string_pattern_mismatch":
        if meant := MEANT.get(detail["ctx"]["pattern"]):
            return f"'{path}': {_short(detail['input'])} is not {meant}"
        return f"'{path}': {detail['input']!r} has characters that it may not have, or too many: it must match {detail['ctx']['pattern']}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"'{path}': {message}" if path else message


def _nearest(key: str, model: type[BaseModel] | None) -> str:
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(key, known, 1, cutoff=0.55)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _walk(loc: Iterable[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The dotted path of an error, union tags left out, and the model that its last key belongs to."""
    parts: list[str] = []
    model: type[BaseModel] | None = root
    owner: type[BaseModel] | None = root
    members: dict[str, type[BaseModel]] = {}
    is_choice = False  # between settings and another value, or none: pydantic's name of it comes next
    for step in loc:
        if step in members or (is_choice and isinstance(step, str)):
            model, members, is_choice = members.get(str(step), model), {}, False
            continue
        if parts and model is None and isinstance(step, str):
            continue  # pydantic's name of a choice between values, such as literal['auto']
        parts.append(str(step))
        owner, members = model, {}
        field = model.model_fields.get(str(step)) if model else None
        model, members = _below(field) if field else (None, {})
        is_choice = model is not None and field is not None and field.annotation is not model
    return ".".join(parts), owner


def _below(field: FieldInfo) -> tuple[type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """The model that a setting's own settings belong to, or the models by kind."""
    kinds: Kinds[Any] | None = next((mark for mark in field.metadata if isinstance(mark, Kinds)), None)
    if kinds is not None:
        return None, {name: kinds[name].settings for name in kinds}
    models = list(_models(field.annotation))
    if len(models) == 1:
        return models[0], {}
    return None, {m.model_fields["kind"].default: m for m in models if "kind" in m.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
