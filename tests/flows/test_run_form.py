"""What the run form of the Prefect UI draws, and what the server checks: `flows.run_form` and `flows.form_checks`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.embed import embed_corpus
from flows.embed_file import embed_file
from flows.run_form import with_form

BEFORE = parameter_schema(embed_corpus).model_dump_for_openapi()
LED = with_form(BEFORE, {})
FORM = LED["definitions"]["%4Aob"]
PASSWORD = "s3://me:secret@lake/docs"


def refusal(schema: dict[str, Any], job: dict[str, Any]) -> str:
    """What a server says of a run with this job; empty: it takes it."""
    try:
        validate({"job": job}, schema, raise_on_error=True)
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"source": {"uri": "a", "id": None, "moved_from": None, "chunks": None}},
        {"source": {"kind": "images", "uri": "a"}, "encoder": {"kind": "open-clip"}},
        {"source": {"kind": "jsonl", "quote": "", "text": ["body"]}},
        {"encoder": {"revision": None}, "cache": None, "metrics": None, "lineage": None},
        {"compute": {"engine": {}, "processes": 2, "limit": None}, "target": {"gate": None, "tls": {"ca": None}, "full_text": "on"}},
    ],
)
def test_a_partial_job_and_one_with_nulls_are_taken_as_before(job: dict[str, Any]) -> None:
    assert refusal(BEFORE, job) == ""
    assert refusal(LED, job) == ""


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"sorce": {}}, "'job'. Failure reason: Additional properties are not allowed ('sorce' was unexpected)"),
        ({"corpus": "two words"}, "'job.corpus'. Failure reason: 'a name of letters, digits"),
        ({"checkpoint": PASSWORD}, "'job.checkpoint'. Failure reason: \"a location without a password"),
        ({"source": {"kind": "images", "uri": PASSWORD}}, "'job.source.uri'. Failure reason: \"a location without a password"),
        ({"source": {"uri": "a", "moved_from": PASSWORD}}, "'job.source.moved_from'. Failure reason: \"a location without a password"),
        ({"source": {"kind": "exel"}}, "'job.source.kind'. Failure reason: 'exel' is not one of ['images'"),
        ({"source": {"kind": "images", "text": ["a"]}}, "'job.source'. Failure reason: Additional properties are not allowed ('text'"),
        ({"source": {"chunks": {"split": "pages"}}}, "'job.source.chunks.split'. Failure reason: 'text, markdown or code:<language>"),
        ({"compute": {"processes": 0}}, "'job.compute.processes'. Failure reason: 0 is less than the minimum of 1"),
        ({"shards": {"rows": 0}}, "'job.shards.rows'. Failure reason: 0 is less than the minimum of 1"),
        ({"report": {"price_per_hour": -1}}, "'job.report.price_per_hour'. Failure reason: -1 is less than the minimum of 0"),
        ({"target": {"gate": {"at_k": 3}}}, "'job.target.gate'. Failure reason: 'queries' is a required property"),
    ],
)
def test_a_refusal_names_the_field_and_says_what_is_meant_without_a_secret(job: dict[str, Any], said: str) -> None:
    assert refusal(BEFORE, job)
    assert said in refusal(LED, job)
    assert "secret" not in refusal(LED, job)


def fields(model: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in model.get("properties", {}).items():
        yield f"{path}{name}", field
        for tab in [field, *field.get("anyOf", [])]:
            yield from fields(tab, f"{path}{name}.")


def test_the_form_draws_no_null_and_no_optional_for_what_has_a_value() -> None:
    shown = dict(fields(FORM))
    assert not [path for path, field in shown.items() if any(tab.get("type") == "null" for tab in field.get("anyOf", []))]
    assert not [path for path, field in shown.items() if field.get("default", ...) is None]
    assert {"corpus", "source", "encoder", "checkpoint", "target", "compute"} <= set(FORM["required"])
    assert FORM["properties"]["source"]["anyOf"][1]["required"] == ["kind", "uri", "types", "chunks", "delimiter", "quote", "encoding"]


def test_what_is_rarely_set_stands_behind_what_most_jobs_set() -> None:
    target = FORM["properties"]["target"]["anyOf"]
    assert [tab["title"] for tab in target] == ["as usual", "every setting"]
    assert list(target[0]["properties"]) == ["uri", "collection", "mode", "full_text"]
    assert list(target[1]["properties"])[:4] == ["uri", "collection", "mode", "full_text"]
    settings = BEFORE["definitions"]["Job"]["properties"]["target"]["properties"]
    assert set(target[1]["properties"]) == set(settings) - {"kind"}
    assert FORM["properties"]["compute"]["anyOf"][0]["properties"].keys() == {"limit"}


def test_titles_are_in_words() -> None:
    encoder = FORM["properties"]["encoder"]["anyOf"][0]["properties"]
    assert encoder["max_seq_length"]["title"] == "Max seq length"
    assert FORM["properties"]["target"]["anyOf"][1]["properties"]["id_length"]["title"] == "ID length"


def test_a_form_of_two_fields_stays_as_it_is() -> None:
    schema = parameter_schema(embed_file).model_dump_for_openapi()
    assert with_form(schema, {}) == schema


def opened_tab(value: dict[str, Any], tabs: list[dict[str, Any]]) -> str:
    """As the form of Prefect chooses: the first of those that share the most keys with the value."""
    return str(max(tabs, key=lambda tab: len(set(value) & set(tab.get("properties", {}))))["title"])


@pytest.mark.parametrize(
    ("part", "value", "title"),
    [
        ("source", {"kind": "text-files", "uri": "a"}, "Text files"),
        ("source", {"kind": "text-files", "uri": "a", "chunks": {"split": "markdown"}}, "Text files"),
        ("source", {"kind": "jsonl", "uri": "a"}, "Table files"),
        ("source", {"uri": "a"}, "Table files"),
        ("source", {"kind": "images", "uri": "a"}, "Image folder"),
        ("source", {"kind": "webdataset", "uri": "a"}, "WebDataset"),
        ("source", {"kind": "webdataset", "uri": "a", "metadata": ["b"], "types": {}}, "WebDataset"),
        ("source", {"kind": "delta", "uri": "a"}, "Delta table"),
        ("source", {"kind": "iceberg", "uri": "a", "metadata": ["b"]}, "Iceberg table"),
        ("encoder", {"model": "a"}, "sentence-transformers"),
        ("encoder", {"kind": "open-clip"}, "open_clip"),
        ("encoder", {"kind": "served", "model": "a"}, "Served"),
        ("encoder", {"kind": "sparse", "model": "a"}, "Sparse"),
    ],
)
def test_the_form_opens_a_saved_job_at_the_tab_of_its_kind(part: str, value: dict[str, Any], title: str) -> None:
    form = with_form(BEFORE, {"job": {"corpus": "a", part: value}, "overrides": {}})
    tabs = form["definitions"]["%4Aob"]["properties"][part]["anyOf"]
    assert opened_tab(value, tabs) == title
    others = FORM["properties"][part]["anyOf"]
    assert sorted(tabs, key=str) == sorted(others, key=str)  # the order alone differs
    assert refusal(form, {part: value}) == ""


def test_tabs_stay_in_their_order_where_the_form_finds_the_right_one() -> None:
    form = with_form(BEFORE, {"job": {"source": {"kind": "jsonl", "uri": "a", "id": "b", "text": ["c"]}, "compute": {"limit": "d"}}})
    assert form == LED
