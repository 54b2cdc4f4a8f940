"""Kinds of sources and encoders: what a line in a registry is enough for."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override, parse_job
from tasks.domain.job.source import SOURCES
from tasks.domain.strict import identifying

ROOT = Path(__file__).parents[3]
more_kinds = pytest.mark.usefixtures("more_kinds")
LINES = {"source": {"kind": "lines", "skip": 2}}


def tabs(part: str) -> list[str]:
    """What the run form calls the choices for a part of the job."""
    return [choice["title"] for choice in Job.model_json_schema()["properties"][part]["anyOf"]]


@more_kinds
def test_a_job_of_a_kind_that_was_registered_is_read_kept_and_changed_like_any_other() -> None:
    job = parse_job(LINES)
    assert (job.source.kind, job.source.modality, job.source.scalars) == ("lines", "text", [])
    assert parse_job(job.model_dump(mode="json")) == Job.model_validate_json(job.model_dump_json()) == job
    assert override(job, {"source.skip": 5}).source.model_dump() == {"kind": "lines", "uri": "texts", "moved_from": None, "skip": 5}


@pytest.mark.parametrize(
    ("kind", "first"),
    [({"kind": "open-clip"}, "'auto', "), ({"kind": "sparse"}, ""), ({"kind": "served", "url": "http://h:1", "model": "m"}, "")],
)
@pytest.mark.parametrize("precision", ["int8", "float8"])
def test_precisions_of_8_bits_are_of_dense_texts(kind: dict[str, Any], first: str, precision: str) -> None:
    with pytest.raises(BadInput, match=f"'encoder.precision' must be {first}'float32'.*, not '{precision}'"):
        parse_job({"encoder": {**kind, "precision": precision}})


@more_kinds
@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"source": {"kind": "lines", "skp": 1}}, "'source.skp' is not a setting; did you mean 'skip'?"),
        ({"source": {"kind": "lines", "skip": -1}}, "'source.skip' must be at least 0, not -1"),
        (
            {"source": {"kind": "line"}},
            "'source.kind' is 'line', it must be one of 'images', 'text-files', 'webdataset', 'parquet', 'jsonl', 'csv', 'delta', 'iceberg', 'lines'",
        ),
        (
            {"source": {"kind": "images"}, "encoder": {"kind": "letters"}},
            "an encoder of kind 'letters' embeds text, this source gives image",
        ),
    ],
)
def test_what_is_wrong_with_its_settings_is_said_as_of_any_other(document: object, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_job(document)
    assert line in str(caught.value)


@more_kinds
def test_the_run_form_has_a_tab_for_each_kind_that_was_registered() -> None:
    assert tabs("source") == ["Image folder", "Text files", "WebDataset", "Table files", "Delta table", "Iceberg table", "Lines"]
    assert tabs("encoder") == ["sentence-transformers", "open_clip", "Served", "Sparse", "Letters"]


def test_what_is_not_registered_is_no_kind() -> None:
    with pytest.raises(BadInput, match=r"'source\.kind' is 'lines'"):
        parse_job(LINES)
    with pytest.raises(BadInput, match=r"'encoder\.kind' is 'letters', it must be one of 'sentence-transformers', 'open-clip', 'served'"):
        ENCODERS["letters"]
    assert "Lines" not in tabs("source")


@more_kinds
def test_the_module_of_a_kind_is_imported_by_the_first_job_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "tests.builders.more_kinds.lines_source"
    monkeypatch.delitem(sys.modules, module, raising=False)
    parse_job({})
    assert module not in sys.modules
    parse_job(LINES)
    assert module in sys.modules


@pytest.mark.parametrize("part", [SOURCES, ENCODERS])
def test_each_kind_is_registered_under_its_own_name(part: Any) -> None:
    assert [part[name].settings.model_fields["kind"].default for name in part] == list(part)


def classes_of_kinds() -> set[str]:
    """Names of the settings' classes, and of the classes that open them."""
    kinds = [*(SOURCES[name] for name in SOURCES), *(ENCODERS[name] for name in ENCODERS)]
    settings = {parent.__name__ for kind in kinds for parent in kind.settings.__mro__ if parent.__name__.endswith(("Source", "Encoder"))}
    return settings | {path.partition(":")[2] for kind in kinds for path in (getattr(kind, "files", ""), getattr(kind, "worker", ""))}


def distinctions(tree: ast.AST, classes: set[str], names: set[str]) -> Iterator[int]:
    """Lines on which something is done for one kind and not for another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            if classes & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}:
                yield node.lineno
        elif isinstance(node, ast.Compare) and names & {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}:
            yield node.lineno


def test_nothing_is_done_for_one_kind_by_its_class_or_its_name() -> None:
    classes, names = classes_of_kinds(), {*SOURCES, *ENCODERS} - {"images"}
    assert {"CsvSource", "TabularSource", "OpenClipEncoder", "WebDatasetFiles", "ImageEncoder"} <= classes
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for top in ("flows", "tasks")
        for path in (ROOT / top).rglob("*.py")
        for line in distinctions(ast.parse(path.read_text()), classes, names)
    ]
    assert not found


@pytest.mark.parametrize(("kind", "settings"), [("delta", {"version": 3}), ("iceberg", {"snapshot": 7, "catalog": "lake"})])
def test_which_snapshot_of_a_table_is_read_is_in_no_digest(kind: str, settings: dict[str, object]) -> None:
    sources = [parse_job({"source": {"kind": kind, **more}}).source for more in ({}, settings)]
    plain, chosen = (identifying(source, exclude=set(source.locating)) for source in sources)
    assert plain == chosen
    assert "uri" not in plain
