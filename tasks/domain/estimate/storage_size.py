"""Estimate the storage of rows in the checkpoint, and in Milvus with its index. Deliberately rough: servers differ."""

from __future__ import annotations

from tasks.domain.estimate.intervals import Range, exactly
from tasks.domain.job.index import Index, VectorType

FLOAT = 4  # bytes
ELEMENT: dict[VectorType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}  # bytes
SHARD_ID, HASH_KEY = 32, 32  # characters
VECTORS = Range(low=0.85, expected=0.92, high=1.0)  # zstd's compressed size over a vector's bytes: tests/benchmarks, 384 dimensions
SCALARS = Range(low=0.85, expected=1.0, high=1.25)  # size over the zstd-compressed size of the sample's other columns
SEAL = Range(low=4, expected=12, high=40)  # bytes of a row's share in footers, seals and the ledger
SERVED = Range(low=0.4, expected=0.8, high=1.1)  # the server's size over the bytes of a row's scalars; servers pack differently
SYSTEM = 16  # bytes: Milvus adds a row number and a timestamp to each row
LINKS = 16  # HNSW's M if the server chooses it
# Bytes for each distinct word of a text in the field for full-text search and its index. Milvus Lite took 5 (10,000 texts of 65
# words); a server stores a number and a count of 4 bytes each, and its index as much again before compression.
WORD_BYTES = Range(low=4, expected=6, high=16)
TERMS = Range(low=20, expected=120, high=400)  # terms of a sparse vector, as published for SPLADE models on passages
TERM_BYTES = 8  # bytes
UPKEEP = 1.5  # a server holds more than it needs until it has merged segments and removed old ones


def checkpoint_bytes(rows: Range, *, dim: int, scalars: float, sparse: bool = False) -> Range:
    """Return the bytes that sealing rows adds to the checkpoint, without report pages.

    Args:
        rows: number of rows.
        dim: dimension of the vectors.
        scalars: bytes of a row's key, text and metadata after compression.
        sparse: whether vectors are sparse; their size is not known in advance.
    """
    vector = TERMS * TERM_BYTES if sparse else exactly(FLOAT * dim)
    return rows * (vector * VECTORS + exactly(scalars) * SCALARS + SEAL)


def target_bytes(
    rows: Range, *, dim: int, scalars: float, index: Index, vectors: VectorType = "float32", words: float = 0, sparse: bool = False
) -> Range:
    """Return the bytes of rows in Milvus, including the index; the high end applies while a server still has old and new segments.

    Args:
        rows: number of rows.
        dim: dimension of the vectors.
        scalars: uncompressed bytes of a row's key, text and metadata.
        index: index of the vectors.
        vectors: stored type of the vectors.
        words: distinct words in a row's text, with full-text search.
        sparse: whether vectors are sparse; their index is about as large as the vectors.
    """
    vector = ELEMENT[vectors] * dim
    indexed = TERMS * (2 * TERM_BYTES) if sparse else exactly(vector) + exactly(vector) * index_share(index, vector)
    row = exactly(SYSTEM) + exactly(scalars + SHARD_ID) * SERVED + indexed + exactly(words) * WORD_BYTES
    needed = rows * row
    return Range(low=needed.low, expected=needed.expected, high=needed.high * UPKEEP)


def index_share(index: Index, vector: int) -> Range:
    """Return the bytes of the index for each byte of vectors; `vector`: bytes of one vector.

    A graph has 2 M links of 4 bytes on its lowest level and a tenth as many above (Malkov and Yashunin 2016). Quantised
    types store about a byte (SQ8) or a bit (RaBitQ) of each dimension. A server may choose any type for AUTOINDEX; Milvus
    Lite builds a graph (1.09 times the vectors at 384 dimensions, measured).
    """
    links = index.params.get("M", LINKS)
    graph = 2.2 * 4 * (links if isinstance(links, int) else LINKS) / vector
    shares = {
        "FLAT": (1.0, 1.0, 1.0),
        "IVF_FLAT": (1.0, 1.02, 1.1),
        "IVF_SQ8": (0.25, 0.27, 0.35),
        "IVF_PQ": (0.02, 0.1, 0.3),
        "IVF_RABITQ": (0.03, 0.06, 0.35),
        "HNSW": (1 + graph, 1 + graph, 1.2 + graph),
        "HNSW_SQ": (0.25 + graph, 0.25 + graph, 0.4 + graph),
        "SCANN": (0.1, 1.1, 1.3),
        "DISKANN": (1.0, 1.3, 2.0),
        "AUTOINDEX": (0.25, 1 + graph, 1.4 + graph),
    }
    low, expected, high = shares[index.type]
    return Range(low=low, expected=expected, high=high)
