"""What a Prefect server checks of a run's parameters, so that a refusal says what is meant and the run form marks the field.

Before it asks the server, the form drops every key that it does not draw, such as `pattern` and `minimum`, but keeps what is in
`allOf`. A choice between models is checked as the one that `kind` names: of `anyOf` the error would be about all of it.
"""

from __future__ import annotations

from typing import Any

from tasks.domain.job.parse import MEANT

Schema = dict[str, Any]
RANGE_KEYS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")


def with_checks(node: Any) -> Any:
    """A schema that accepts exactly what this one does, kinds that are left out aside: those are the default's, as for a job."""
    if isinstance(node, list):
        return [with_checks(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {
        key: value if key in ("default", "enum", "const") or _is_plain(key, value) else with_checks(value) for key, value in node.items()
    }
    choice = _choice(node)
    rules = [*_rules(node), *choice]
    if not rules:
        return node
    left = {key: value for key, value in node.items() if key not in ("pattern", *RANGE_KEYS) and (key != "anyOf" or not choice)}
    return {**left, "allOf": [*left.get("allOf", []), *rules]}


def _is_plain(key: str, value: Any) -> bool:
    """Whether it is a choice between values of several types, such as auto or a number: their own limits tell most."""
    return key == "anyOf" and not any(tab.get("type") == "null" or "properties" in tab for tab in value)


def _rules(node: Schema) -> list[Schema]:
    rules = [{key: node[key]} for key in RANGE_KEYS if key in node and not isinstance(node[key], dict)]
    pattern = node.get("pattern")
    if isinstance(pattern, str):
        rules.append({"if": {"pattern": pattern}, "else": {"const": MEANT[pattern]}} if pattern in MEANT else {"pattern": pattern})
    return rules


def _choice(node: Schema) -> list[Schema]:
    """A union that says by itself which of it a value is meant to be."""
    tabs = node.get("anyOf", [])
    others = [tab for tab in tabs if tab.get("type") != "null"]
    if len(others) == 1 and len(tabs) == 2:
        return [{"if": {"type": "null"}, "else": others[0]}]
    kinds = [kinds_of(tab) for tab in tabs]
    if not tabs or not all(kinds):
        return []
    default = node["default"]["kind"]
    known = [kind for each in kinds for kind in each]
    return [
        {"type": "object", "properties": {"kind": {"enum": known}}},
        *({"if": _is(each, default), "then": tab} for tab, each in zip(tabs, kinds, strict=True)),
    ]


def _is(kinds: list[str], default: str) -> Schema:
    named = {"properties": {"kind": {"enum": kinds}}}
    return named if default in kinds else {**named, "required": ["kind"]}


def kinds_of(tab: Schema) -> list[str]:
    """What `kind` may be in one of a union's models; nothing where it has no such setting."""
    kind = tab.get("properties", {}).get("kind", {})
    return [kind["const"]] if "const" in kind else list(kind.get("enum", []))
