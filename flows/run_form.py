"""How the run form of the Prefect UI shows a deployment's parameters.

The form draws a field for each property, appends "(Optional)" to those that are not `required`, draws a union as tabs, and shows
'Property is type "None"' for null. The server checks runs by the same schema, and partial jobs and nulls of older runs must stay valid.
So a parameter has two definitions: the server resolves `#/definitions/%4Aob` as a JSON pointer, percent-decoded, to `Job`; the form
looks up the literal name `%4Aob` and finds the definition to draw. A test drives the form of the pinned Prefect version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.form_checks import Schema, kinds_of, with_checks

# The settings of most jobs. They come first, and alone in a group without kinds; other settings follow.
USUAL = {
    *("corpus", "source", "encoder", "checkpoint", "target"),
    *("kind", "uri", "id", "text", "image", "metadata", "embed", "version", "catalog", "snapshot"),
    *("api", "url", "model", "revision", "architecture", "pretrained", "prompt", "query_prompt"),
    *("collection", "mode", "full_text", "limit"),
}
ABBREVIATIONS = {"id": "ID", "uri": "URI", "url": "URL", "ttl": "TTL"}


def with_form(schema: Schema, saved: Mapping[str, Any]) -> Schema:
    """Return the schema of a deployment's parameters: the server accepts the same values, and the form draws fewer fields.

    Args:
        schema: as Prefect derives it from the flow.
        saved: the deployment's parameters; the form opens the tabs of their kinds.
    """
    definitions = schema["definitions"]
    if "Job" not in definitions or any("%" in name for name in definitions):
        return schema
    view, drawn = View(definitions), {name: field for name, field in schema["properties"].items() if name != "dry_run"}
    own = {name.capitalize(): definitions["Job"] if name == "job" else field for name, field in drawn.items()}
    forms = {
        f"%{ord(name[0]):X}{name[1:]}": _opened_for(saved.get(parameter), view.field("", field))
        for parameter, (name, field) in zip(drawn, own.items(), strict=True)
    }
    led = {
        name: {"$ref": f"#/definitions/{form}", **_of(drawn[name], "position", "description"), "title": name.capitalize()}
        for name, form in zip(drawn, forms, strict=True)
    }
    return {
        **schema,
        "definitions": {name: with_checks(field) for name, field in (definitions | own).items()} | forms,
        "properties": {**schema["properties"], **led},
    }


def _opened_for(value: Any, field: Schema) -> Schema:
    """Return the field so that the form opens the tab of a value's kind: with that tab first if the form would open another.

    The form ignores `kind`: it opens the first tab that shares the most keys with the value, and {kind: text-files, uri: docs} also fits images.
    """
    if not isinstance(value, Mapping):
        return field
    if "properties" in field:
        field = {**field, "properties": {name: _opened_for(value.get(name), below) for name, below in field["properties"].items()}}
    if "anyOf" not in field:
        return field
    tabs = [_opened_for(value, tab) for tab in field["anyOf"]]
    kind = value.get("kind", (field.get("default") or {}).get("kind"))
    match = next((tab for tab in tabs if kind in kinds_of(tab)), None)
    if match is not None and match is not max(tabs, key=lambda tab: len(value.keys() & tab["properties"].keys())):
        tabs = [match, *(tab for tab in tabs if tab is not match)]
    return {**field, "anyOf": tabs}


def _of(field: Mapping[str, Any], *keys: str) -> Schema:
    return {key: field[key] for key in keys if key in field}


class View:
    """The schema that the form draws, with references resolved."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def field(self, name: str, field: Schema) -> Schema:
        """Return a setting without null, with its name in words."""
        field = self._led_to(field)
        choices = [self._led_to(choice) for choice in field.get("anyOf", [])]
        tabs = [choice for choice in choices if choice.get("type") != "null"]
        bare = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
        bare["title"] = _title(name, bare)
        default = field.get("default")
        if len(tabs) > 1:
            return self._tabs(bare, tabs, default)
        if tabs:
            bare = {**tabs[0], **bare}
            if bare.get("type") == "object" and name:
                whole = self.model(bare) if "properties" in bare else _of(bare, "type", "description")
                return _folded(bare, {"type": "object", "properties": {}}, "off", whole, "on")
        if "block_type_slug" in bare:
            return bare  # drawn as a choice of saved blocks
        if "properties" in bare:
            return self._group(bare) if name else self.model(bare)
        if bare.get("type") == "object":
            return bare | {"default": default or {}}  # drawn as a JSON editor, which must not be empty
        return bare if default in (None, [], "") else bare | {"default": default}

    def model(self, model: Schema) -> Schema:
        """Return an object with its usual settings first and constants last."""
        properties, first = model["properties"], {*USUAL, *model.get("required", [])}
        order = sorted(properties, key=lambda name: ("const" in properties[name], name not in first))
        drawn = {name: self.field(name, properties[name]) | {"position": place} for place, name in enumerate(order)}
        return {
            **_of(model, "title", "description"),
            "type": "object",
            "properties": drawn,
            "required": [name for name, field in drawn.items() if "default" in field or _is_group(field)],
        }

    def _led_to(self, field: Schema) -> Schema:
        if not str(field.get("$ref", "")).startswith("#/definitions/"):
            return field
        target = self._definitions[field["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in field.items() if key != "$ref"}}

    def _tabs(self, bare: Schema, tabs: list[Schema], default: Any) -> Schema:
        """Return a union. The form selects the first tab that shares most keys with a value, so tabs with few keys come first."""
        drawn = [self.model(tab) if "properties" in tab else tab for tab in tabs]
        if not isinstance(default, dict):
            return bare | {"anyOf": drawn} | ({} if default is None else {"default": default})
        first = next(tab for tab in drawn if default["kind"] in kinds_of(tab))
        few = [tab for tab in drawn if set(tab["properties"]) < set(first["properties"])]
        shown = {name: field["default"] for name, field in first["properties"].items() if "default" in field}
        return bare | {"anyOf": [*few, first, *(tab for tab in drawn if tab not in (*few, first))], "default": shown}

    def _group(self, model: Schema) -> Schema:
        """Return a group of settings: the usual ones, and all settings on a second tab."""
        model = {**model, "properties": {name: field for name, field in model["properties"].items() if "const" not in field}}
        usual = {name: field for name, field in model["properties"].items() if name in USUAL}
        if len(usual) == len(model["properties"]):
            return self.model(model)
        return _folded(model, self.model({"properties": usual}), "as usual", self.model(model), "every setting")


def _folded(model: Schema, few: Schema, name: str, whole: Schema, whole_name: str) -> Schema:
    return {**_of(model, "title", "description"), "anyOf": [{**few, "title": name}, {**whole, "title": whole_name}]}


def _is_group(field: Schema) -> bool:
    return "properties" in field or any("properties" in tab for tab in field.get("anyOf", []))


def _title(name: str, field: Schema) -> str:
    """Return the explicit title, or the name in words: pydantic's generated title capitalises every word."""
    title = str(field.get("title", ""))
    if title and (not name or title != name.replace("_", " ").title()):
        return title
    first, *more = (ABBREVIATIONS.get(word, word) for word in name.split("_"))
    return " ".join([first[:1].upper() + first[1:], *more])
