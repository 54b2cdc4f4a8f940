"""What a server cannot hold of a collection is said before anything is encoded; what no server can, when the job is read."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.index import Server
from tasks.domain.job.parse import parse_job
from tasks.domain.served_identity import served_identity
from tasks.domain.target.collection import CollectionSpec, check_same, check_server
from tasks.domain.target.fields import ScalarField

TAGS = ScalarField(name="tags", column="the tags", type="varchar[]")
TENANT = ScalarField(name="tenant", column="tenant", type="int64")


def spec(**given: Any) -> CollectionSpec:
    plain = {"name": "c", "alias": "a", "dim": 4, "metric": "COSINE", "store_text": True, "id_length": 9, "fingerprint": "f", "model": "m"}
    return CollectionSpec(**(plain | {"fields": (TAGS, TENANT)} | given))


@pytest.mark.parametrize(
    ("given", "version", "told"),
    [
        ({}, "2.2.16", "source.metadata: column 'the tags' holds lists, which need Milvus 2.3.2, and this is Milvus 2.2.16"),
        (
            {"partition_key": "tenant"},
            "v2.3.5-lite",
            "target.partition_key needs Milvus 2.4.3, and this is Milvus 2.3.5-lite, where a filter",
        ),
        ({"partition_key": "tenant"}, "2.4.2", "target.partition_key needs Milvus 2.4.3"),
        ({"vector_type": "int8"}, "2.3.5", "int8 needs Milvus 2.6"),
        ({"index": {"type": "IVF_RABITQ"}}, "2.3.5", "IVF_RABITQ needs Milvus 2.6"),
    ],
)
def test_what_a_server_lacks_is_named(given, version, told):
    with pytest.raises(BadInput, match=told):
        check_server(spec(**given), Server("Milvus", version))


def test_a_server_that_has_it_all_passes():
    check_server(spec(), Server("Milvus", "v2.3.5-lite"))
    for server in (Server("Milvus", "v2.4.3"), Server("Zilliz Cloud", "2.6"), Server("Milvus Lite")):
        check_server(spec(partition_key="tenant"), server)


def test_a_collection_that_another_served_model_of_the_same_name_has_filled_is_refused() -> None:
    there, rounded, other = (served_identity({}, [vector] * 6) for vector in ([1.0, 0.0], [1.0, 0.01], [0.0, 1.0]))
    with pytest.raises(BadInput, match=r"it has vectors of another model of the encoder's server .*choose another target.collection"):
        check_same(spec(server=there), spec(server=other), "here")
    for ours, wanted in ((there, rounded), (None, other), (there, None)):  # an older collection says nothing of it
        check_same(spec(server=ours), spec(server=wanted), "here")


def test_a_collection_of_a_time_without_these_settings_is_one_of_float32_without_a_partition_key():
    older = spec().model_dump(mode="json", exclude={"vector_type", "partition_key"})
    assert CollectionSpec.model_validate(older) == spec()


JOBS = [
    ({"vector_type": "int8", "metric": "IP"}, "vector_type int8 works only with metric COSINE, not with IP"),
    ({"vector_type": "int8", "index": {"type": "IVF_FLAT"}}, "int8 has no index IVF_FLAT: choose one of AUTOINDEX, HNSW, HNSW_SQ"),
    ({"vector_type": "float16", "load": "import"}, "load import fills float32 vectors, not float16: leave load at auto"),
    ({"vector_type": "float64"}, "target.vector_type"),
    ({"partition_key": "tenant"}, r"'tenant' is not in source.metadata \(lang\): add it there"),
]


@pytest.mark.parametrize(("target", "told"), JOBS)
def test_a_job_that_no_server_could_do_is_refused_when_it_is_read(target, told):
    with pytest.raises(BadInput, match=told) as refused:
        parse_job({"source": {"metadata": ["lang"]}, "target": target})
    assert "\n" not in str(refused.value)


def test_the_images_of_a_folder_have_no_partition_key():
    with pytest.raises(BadInput, match=r"not in source.metadata \(it is empty\)"):
        parse_job({"source": {"kind": "images"}, "encoder": {"kind": "open-clip"}, "target": {"partition_key": "x"}})
