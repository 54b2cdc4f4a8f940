"""The target of a job is of a kind: Milvus where none is named, and what was written before there were kinds reads as before."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.index import Index
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override, parse_job
from tasks.domain.job.target import TARGETS, MemorySettings, MilvusSettings, StoredAs
from tasks.domain.target.collection import target_fingerprint

SETTINGS = {"uri": "http://host:19530", "database": "db", "collection": "rows", "partition_key": "lang", "index": {"type": "FLAT"}}
MILVUS = {"uri", "tls", "database", "vector_type", "index", "staging", "partition_key"}


def test_a_job_without_a_kind_is_for_milvus() -> None:
    job = parse_job({"source": {"metadata": ["lang"]}, "target": SETTINGS})
    assert job.target == MilvusSettings(**SETTINGS)
    assert job == parse_job({"source": {"metadata": ["lang"]}, "target": {"kind": "milvus", **SETTINGS}})
    assert job.target.stored_as == StoredAs(partition_key="lang", index=Index(type="FLAT"))


def test_an_address_in_memory_is_memory_without_a_kind() -> None:
    assert parse_job({"target": {"uri": "memory://a"}}).target == MemorySettings(uri="memory://a")


@pytest.mark.parametrize("target", [MilvusSettings(**SETTINGS), MemorySettings(uri="memory://a", id_length=7)])
def test_every_setting_of_a_kind_goes_through_a_document_and_an_override(target: MilvusSettings | MemorySettings) -> None:
    job = Job.model_validate({"source": {"metadata": ["lang"]}, "target": target})
    assert Job.model_validate(job.model_dump(mode="json")) == job == Job.model_validate_json(job.model_dump_json())
    assert override(job, {"target.grace": 1}).target == target.model_copy(update={"grace": 1.0})


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"kind": "qdrant"}, "'target.kind' is 'qdrant', it must be one of 'milvus', 'memory'"),
        ({"urii": "x"}, "'target.urii' is not a setting; did you mean 'uri'?"),
        ({"colection": "x"}, "'target.colection' is not a setting; did you mean 'collection'?"),
        ({"kind": "memory", "database": "x"}, "'target.database' is not a setting"),
        ({"kind": "memory", "uri": "./x.db"}, "'target.uri': './x.db' has invalid characters"),
        ({"index": {"type": "TREE"}}, "'target.index.type' must be 'AUTOINDEX'"),
        ({"vector_type": "int8", "metric": "L2"}, "'target': vector_type int8 works only with metric COSINE"),
        ({"load": "import", "vector_type": "float16"}, "'target': load import fills float32 vectors"),
    ],
)
def test_what_is_wrong_is_said_of_the_kind_that_is_meant(target: dict[str, object], line: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_job({"target": target})
    assert line in str(caught.value)


def test_what_is_milvus_own_is_in_its_kind_alone() -> None:
    own = MilvusSettings.model_fields.keys() - TARGETS["memory"].settings.model_fields.keys()
    assert own == MILVUS - {"uri"}


def test_the_run_form_has_the_address_first_and_no_memory() -> None:
    form = Job.model_json_schema()["properties"]["target"]
    assert (form["title"], list(form["properties"])[:3]) == ("Target", ["kind", "uri", "collection"])
    assert form["properties"].keys() == MilvusSettings.model_fields.keys()


def test_ledgers_and_moves_keep_the_names_that_they_had_before_there_were_kinds() -> None:
    assert target_fingerprint(MilvusSettings(uri="./rows.db"), "rows_12345678") == "3f396a380fc07a52"
    assert target_fingerprint(MilvusSettings(**SETTINGS), "rows") == "c6437cfecb80d6f2"
