"""How many bytes rows take: in the checkpoint, and in Milvus with its index. Rough on purpose: servers differ."""

from __future__ import annotations

from tasks.domain.estimate.intervals import Range, exactly
from tasks.domain.job.index import Index, VectorType

FLOAT = 4  # bytes
ELEMENT: dict[VectorType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}  # bytes
SHARD_ID, HASH_KEY = 32, 32  # characters
VECTORS = Range(low=0.85, expected=0.92, high=1.0)  # of a vector's bytes that zstd leaves of it: tests/benchmarks, 384 dimensions
SCALARS = Range(low=0.85, expected=1.0, high=1.25)  # of what zstd left of the sample's other columns
SEAL = Range(low=4, expected=12, high=40)  # bytes of a row's share in footers, seals and the ledger
SERVED = Range(low=0.4, expected=0.8, high=1.1)  # of the bytes of a row's scalars, however the server packs them
SYSTEM = 16  # bytes: Milvus adds a row number and a time to each row
LINKS = 16  # of a row in a graph, where the server chooses: HNSW's M
# Bytes for each different word of a text in the field that full text is searched by, and in its index. Milvus Lite took 5 (10,000 texts of 65
# words); a server keeps a number and a count of 4 bytes each, and its index as many again before compression.
WORD_BYTES = Range(low=4, expected=6, high=16)
TERMS = Range(low=20, expected=120, high=400)  # of a sparse vector, 8 bytes each: as SPLADE models publish them for passages
TERM_BYTES = 8  # bytes
UPKEEP = 1.5  # until segments are put together and old ones removed, a server holds more than it needs


def checkpoint_bytes(rows: Range, *, dim: int, scalars: float, sparse: bool = False) -> Range:
    """What sealing rows adds to the checkpoint, report pages left out.

    Args:
        rows: how many.
        dim: of a vector.
        scalars: bytes of a row's key, text and metadata after compression.
        sparse: whether vectors are, of which nobody knows the size before.
    """
    vector = TERMS * TERM_BYTES if sparse else exactly(FLOAT * dim)
    return rows * (vector * VECTORS + exactly(scalars) * SCALARS + SEAL)


def target_bytes(
    rows: Range, *, dim: int, scalars: float, index: Index, vectors: VectorType = "float32", words: float = 0, sparse: bool = False
) -> Range:
    """Bytes of rows in Milvus, index included; the high end holds while a server still has old segments beside new ones.

    Args:
        rows: how many.
        dim: of a vector.
        scalars: bytes of a row's key, text and metadata as they are.
        index: of the vectors.
        vectors: how they are stored.
        words: different words in a row's text, where it is searched by words.
        sparse: whether vectors are; their index is as large as they are, about.
    """
    vector = ELEMENT[vectors] * dim
    indexed = TERMS * (2 * TERM_BYTES) if sparse else exactly(vector) + exactly(vector) * index_share(index, vector)
    row = exactly(SYSTEM) + exactly(scalars + SHARD_ID) * SERVED + indexed + exactly(words) * WORD_BYTES
    needed = rows * row
    return Range(low=needed.low, expected=needed.expected, high=needed.high * UPKEEP)


def index_share(index: Index, vector: int) -> Range:
    """Bytes of the index for each byte of vectors, of which one has `vector`.

    A graph has 2 M links of 4 bytes on its lowest level and a tenth as many above (Malkov and Yashunin 2016). Quantised
    kinds keep a byte (SQ8), a bit (RaBitQ) or so of a dimension. A server may choose any for AUTOINDEX; Milvus Lite
    takes a graph (1.09 times the vectors at 384 dimensions, measured).
    """
    asked = index.params.get("M", LINKS)
    graph = 2.2 * 4 * (asked if isinstance(asked, int) else LINKS) / vector
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
