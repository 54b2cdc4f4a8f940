"""Rewrites a parameter schema so that the Prefect server's errors are clear and the run form marks the right field.

Before the form sends the schema to the server, it drops every key that it does not draw, such as `pattern` and `minimum`, but keeps
the content of `allOf`. A union of models is checked as the model that `kind` names: with `anyOf` the error would cover the whole union.
"""

from __future__ import annotations

from typing import Any

from tasks.domain.job.parse import MEANT

Schema = dict[str, Any]
RANGE_KEYS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")


def with_checks(node: Any) -> Any:
    """Return a schema that accepts the same values, except that a missing `kind` means the default kind, as in a job."""
    if isinstance(node, list):
        return [with_checks(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {
        key: value if key in ("default", "enum", "const") or _is_plain(key, value) else with_checks(value) for key, value in node.items()
    }
    union = _union_rules(node)
    rules = [*_rules(node), *union]
    if not rules:
        return node
    left = {key: value for key, value in node.items() if key not in ("pattern", *RANGE_KEYS) and (key != "anyOf" or not union)}
    return {**left, "allOf": [*left.get("allOf", []), *rules]}


def _is_plain(key: str, value: Any) -> bool:
    """Return whether it is a union of simple types, such as auto or a number, whose own limits give the clearest errors."""
    return key == "anyOf" and not any(tab.get("type") == "null" or "properties" in tab for tab in value)


def _rules(node: Schema) -> list[Schema]:
    rules = [{key: node[key]} for key in RANGE_KEYS if key in node and not isinstance(node[key], dict)]
    pattern = node.get("pattern")
    if isinstance(pattern, str):
        rules.append({"if": {"pattern": pattern}, "else": {"const": MEANT[pattern]}} if pattern in MEANT else {"pattern": pattern})
    return rules


def _union_rules(node: Schema) -> list[Schema]:
    """Return the rules of a union whose value says which member it is: by `kind`, or by being null."""
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
    """Return the values of `kind` in a member of a union; none if it has no `kind`."""
    kind = tab.get("properties", {}).get("kind", {})
    return [kind["const"]] if "const" in kind else list(kind.get("enum", []))
