"""An index that a server lacks is refused before anything is encoded."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.index import Index, Server, check_index, check_vector_type


@pytest.mark.parametrize(
    ("index", "server", "told"),
    [
        ("DISKANN", Server("Milvus Lite"), "Milvus Lite has no DISKANN: choose one of AUTOINDEX, FLAT"),
        ("HNSW", Server("Zilliz Cloud", "2.6.1"), "Zilliz Cloud 2.6.1 has no HNSW: choose one of AUTOINDEX"),
        ("IVF_RABITQ", Server("Milvus", "v2.3.5-lite"), "IVF_RABITQ needs Milvus 2.6, and this is Milvus 2.3.5-lite"),
        ("HNSW_SQ", Server("Milvus", "v2.4.17"), "HNSW_SQ needs Milvus 2.5"),
    ],
)
def test_an_index_that_the_server_lacks_is_named_with_what_to_choose(index, server, told):
    with pytest.raises(BadInput, match=told):
        check_index(Index(type=index), server)


@pytest.mark.parametrize(
    ("index", "server"),
    [
        ("AUTOINDEX", Server("Zilliz Cloud", "2.6.1")),
        ("IVF_RABITQ", Server("Milvus", "2.6.0")),
        ("IVF_RABITQ", Server("Milvus", "main-20260101")),  # cannot be read: the server will say
        ("HNSW", Server("Milvus", "v2.3.5-lite")),
        ("HNSW", Server("Milvus Lite")),
    ],
)
def test_an_index_that_the_server_has_passes(index, server):
    check_index(Index(type=index), server)


@pytest.mark.parametrize(
    ("vectors", "server", "told"),
    [
        ("float16", Server("Milvus Lite"), "Milvus Lite has no float16 vectors: leave it at float32"),
        ("bfloat16", Server("Milvus", "v2.3.5-lite"), "bfloat16 needs Milvus 2.4.5, and this is Milvus 2.3.5-lite: choose float32"),
        ("int8", Server("Milvus", "v2.5.4"), "int8 needs Milvus 2.6.0, and this is Milvus 2.5.4: choose float16, bfloat16 or float32"),
    ],
)
def test_a_type_of_vectors_that_the_server_lacks_is_named_with_what_to_choose(vectors, server, told):
    with pytest.raises(BadInput, match=told):
        check_vector_type(vectors, server)


@pytest.mark.parametrize(
    ("vectors", "server"),
    [
        ("float32", Server("Milvus Lite")),
        ("float16", Server("Milvus", "v2.4.5")),
        ("int8", Server("Milvus", "v2.6.1")),
        ("bfloat16", Server("Zilliz Cloud", "2.5.3")),
    ],
)
def test_a_type_of_vectors_that_the_server_has_passes(vectors, server):
    check_vector_type(vectors, server)


@pytest.mark.parametrize(("dim", "parts"), [(384, 96), (32, 8), (7, 1), (1, 1), (13, 1), (10, 2)])
def test_a_product_quantizer_cuts_vectors_into_equal_parts(dim: int, parts: int) -> None:
    assert Index(type="IVF_PQ").build_params(dim)["m"] == parts


def test_a_jobs_own_build_parameters_win() -> None:
    assert Index(type="HNSW", params={"M": 4}).build_params(8) == {"M": 4, "efConstruction": 200}
    assert Index(type="AUTOINDEX").build_params(8) == {}
