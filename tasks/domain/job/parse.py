"""Parse a user's document into a Job, and format pydantic's errors as one line for people."""

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
    """Validate a parsed job file.

    Raises:
        BadInput: names the key, its fault and, for an unknown key, the most similar existing one.
    """
    if not isinstance(document, Mapping):
        raise BadInput("a job is a mapping of keys such as corpus, source, encoder, checkpoint and target")
    try:
        return Job.model_validate(document)
    except ValidationError as error:
        raise BadInput(explain_errors(error)) from error


def override(job: Job, settings: Mapping[str, Any]) -> Job:
    """Replace single settings of a job by their dotted paths.

    Raises:
        BadInput: there is no such setting, or its value is invalid.
    """
    return parse_job(override_document(job.model_dump(mode="json"), settings)) if settings else job


def override_document(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace settings of a parsed job file by their dotted paths; returns a copy."""
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
    """Format an error as one line; alternatives of one setting (`auto` or a number) are joined. `root`: the validated model."""
    expected: dict[str, list[str]] = {}
    inputs: dict[str, Any] = {}
    messages: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, model = _walk(detail["loc"], root)
        must = _MUST.get(detail["type"])
        if must:
            expected.setdefault(path, []).append(must.format(**detail.get("ctx", {})))
            inputs[path] = detail["input"]
        else:
            messages.setdefault(path, []).append(_explain(detail, path, model))
    paths = [*expected, *messages]
    shown = [path for path in expected if not (isinstance(inputs[path], Mapping) and (path in messages or _has_error_below(path, paths)))]
    lines = [f"'{path}' must be {' or '.join(dict.fromkeys(expected[path]))}, not {_short(inputs[path])}" for path in shown]
    others = [" or ".join([first, *(other.removeprefix(f"'{path}': ") for other in rest)]) for path, (first, *rest) in messages.items()]
    return "; ".join([*lines, *others])


def explain_value(error: ValidationError, name: str) -> str:
    """Format the error of a single value, such as an option's."""
    detail = error.errors(include_url=False)[0]
    must = _MUST.get(detail["type"])
    if must:
        return f"{name} must be {must.format(**detail.get('ctx', {}))}, not {_short(detail['input'])}"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"


def _has_error_below(path: str, paths: Iterable[str]) -> bool:
    """Whether one of the errors is below a path, so that the alternatives of the whole setting (left out, a word) are not meant."""
    return any(other.startswith(f"{path}.") for other in paths)


# Texts for pydantic's error types.
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
WRONG_VALUE_CHARACTERS = 60  # of a wrong value that are shown


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= WRONG_VALUE_CHARACTERS else f"{text[:WRONG_VALUE_CHARACTERS]}..."


# Descriptions of the patterns of settings.
MEANT = {
    NAME: "a name of letters, digits, dots, dashes and underscores that begins with a letter or a digit",
    COLLECTION: "a name of letters, digits and underscores that begins with a letter or an underscore",
    URL: "an address that begins with http:// or https://, without user, query and fragment",
    REDIS: "an address such as redis://host:6379/0, or rediss:// for TLS",
    SPLIT: "text, markdown or code:<language>, such as code:python",
    ONE_DELIMITER: 'one character (ASCII, or a tab as "\\t") or auto',
    ONE_CHARACTER: "one ASCII character or empty",
    FREE_OF_CREDENTIALS: "a location without a password, a token or a key (those come from the worker's environment or a Secret block)",
}


def _explain(detail: Any, path: str, model: type[BaseModel] | None) -> str:
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"'{path}' is not a setting{_nearest(key, model)}"
    if detail["type"] == "union_tag_invalid":
        kinds = detail["ctx"]["expected_tags"]
        near = difflib.get_close_matches(detail["ctx"]["tag"], kinds.replace("'", "").split(", "), 1, cutoff=0.5)
        return f"'{path}.kind' is {detail['ctx']['tag']!r}, it must be one of {kinds}{f'; did you mean {near[0]!r}?' if near else ''}"
    if detail["type"] == "missing":
        return f"'{path}' is required"
    if detail["type"] == "string_pattern_mismatch":
        if meant := MEANT.get(detail["ctx"]["pattern"]):
            return f"'{path}': {_short(detail['input'])} is not {meant}"
        return f"'{path}': {detail['input']!r} has invalid characters, or too many: it must match {detail['ctx']['pattern']}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"'{path}': {message}" if path else message


def _nearest(key: str, model: type[BaseModel] | None) -> str:
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(key, known, 1, cutoff=0.55)
    return f"; did you mean '{near[0]}'?" if near else f"; the settings are {', '.join(known)}"


def _walk(loc: Iterable[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted path of an error, without union tags, and the model that its last key belongs to."""
    parts: list[str] = []
    model: type[BaseModel] | None = root
    owner: type[BaseModel] | None = root
    members: dict[str, type[BaseModel]] = {}
    is_choice = False  # between settings and another value, or none; pydantic's name of the choice is the next step
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
    """Return the model of a setting's own settings, or the models by kind."""
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
