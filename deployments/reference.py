"""Writes reference.md, with every command and setting, and job.schema.json from the command line and the job's schema.

    python deployments/reference.py

A test compares the page with this script's output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from flows.command_line.cli import app
from tasks.domain.job.job import Job
from tasks.domain.job.json_schema import job_schema

PAGE = Path(__file__).with_name("reference.md")
SCHEMA = PAGE.with_name("job.schema.json")
SHARED = {"job", "settings", "as_json"}  # parameters of nearly every command
HEAD = """# Reference

Every command and every setting. Written by `python deployments/reference.py`: change the help texts and the descriptions there.

## Commands

Each takes the job file as `JOB`, and most take `--set PATH=VALUE` (override a setting; may be repeated) and `--json` (one document on
stdout). Exit codes: 0 done, 1 failed, 2 wrong input, 3 not complete, 4 not verified or different, 130 interrupted, 143 terminated.
"""
ENVIRONMENT = """
## Environment

Secrets are never part of a job: a URI with a password, a token or a key in it is refused, by the command and by a Prefect server.

| variable | meaning |
|---|---|
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`, ... | credentials for S3, as every AWS client reads them |
| `AWS_ENDPOINT_URL` | the address of MinIO, Ceph or another S3 server |
| `MILVUS_TOKEN` | the token of Milvus or Zilliz Cloud, if `target.token_block` names no Prefect Secret block |
| `ENCODER_TOKEN` | the token of a served encoder, on every host that encodes, if `encoder.token_block` names no Secret block |
| `REDIS_USERNAME`, `REDIS_PASSWORD` | user and password of the Redis server that `cache.uri` names, on every machine that encodes |
| `PREFECT_API_URL` | the Prefect server to run with; without it a command starts a private one and ends it |
| `HF_HOME`, `HF_HUB_OFFLINE` | the cache of downloaded models; whether to use the cache only |
| `KITESTRING_PORT`, `KITESTRING_STATE` | the port of `make up` (4200) and the folder of its server, worker and logs (`.kitestring`) |
| `KITESTRING_NOTIFY` | a URL that `deployments/install.py` sets up for notifications of too many quarantined rows |

A bucket needs `s3:GetObject`, `PutObject`, `DeleteObject`, `ListBucket` and `AbortMultipartUpload`, conditional writes (checked
when a run starts), and a lifecycle rule that aborts unfinished multipart uploads.
"""
SETTINGS = """
## Settings

A job file has these keys. An unknown key is refused, and the message names the nearest one. *none* as default means: left out.
"""


def reference() -> str:
    """Return the page."""
    schema = Job.model_json_schema()
    return "\n".join(
        [HEAD, *_commands(typer.main.get_command(app), "kitestring"), ENVIRONMENT, SETTINGS, *_settings(schema, schema["$defs"]), ""]
    )


def _commands(command: Any, name: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for child, inner in command.commands.items():
            yield from _commands(inner, f"{name} {child}")
        return
    yield f"### `{' '.join([name, *_arguments(command)])}`\n\n{_one_line(command.help or '')}\n"
    options = [parameter for parameter in command.params if parameter.name not in SHARED]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{_usage(option)}` | {_one_line(getattr(option, 'help', '') or '')} |" for option in options)
        yield ""


def _arguments(command: Any) -> list[str]:
    return [str(each.metavar or each.name).upper() for each in command.params if each.param_type_name == "argument"]


def _usage(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar or option.name).upper()
    flag = getattr(option, "is_flag", False)
    return " ".join([*option.opts, *([] if flag else [str(option.metavar or option.name).upper()])])


def _settings(model: dict[str, Any], models: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield a table of a model's own settings, then one for each nested model."""
    fields = {name: _resolved(field, models) for name, field in model["properties"].items()}
    below = {name: [tab for tab in field.get("anyOf", [field]) if "properties" in tab] for name, field in fields.items()}
    own = [_row(f"{path}{name}", field, needed=name in model.get("required", ())) for name, field in fields.items() if not below[name]]
    if own:
        yield "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *own, ""])
    for name, tabs in below.items():
        for tab in tabs:
            title = f": {tab['title']}" if len(tabs) > 1 else ""
            yield f"### `{path}{name}`{title}\n\n{_one_line((tab if len(tabs) > 1 else fields[name])['description'])}\n"
            yield from _settings(tab, models, f"{path}{name}.")


def _resolved(field: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in field:
        field = {**models[field["$ref"].rpartition("/")[2]], **field}
    if "anyOf" in field:
        field = {**field, "anyOf": [_resolved(tab, models) for tab in field["anyOf"]]}
    return field


def _row(path: str, field: dict[str, Any], *, needed: bool) -> str:
    default = "*required*" if needed else _default(field)
    return f"| `{path}` | {_type(field)} | {default} | {_one_line(field.get('description', ''))} |"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(tab) for tab in field["anyOf"] if tab.get("type") != "null")
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    bounds = [f"{word} {field[key]}" for key, word in BOUNDS.items() if key in field]
    return " ".join([TYPES[field["type"]], *bounds])


TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "object": "mapping"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
EMPTY = {"array": "[]", "object": "{}"}


def _default(field: dict[str, Any]) -> str:
    default = field.get("default", EMPTY.get(field.get("type", "")))
    if isinstance(default, str) and field.get("type") == "array":
        return f"`{default}`"
    return "*none*" if default is None else f"`{default if isinstance(default, str) and default else json.dumps(default)}`"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the page and the schema."""
    PAGE.write_text(reference(), encoding="utf-8")
    SCHEMA.write_text(json.dumps(job_schema(), indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name} and {SCHEMA.name}\n")


if __name__ == "__main__":
    main()
