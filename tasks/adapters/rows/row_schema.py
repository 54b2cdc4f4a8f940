"""Rows on their way to the encoder: one Arrow form for all sources.

row         int64    position in the shard, from 0
id          string   the key; unique in the shard after deduplication
text        string   the embedded text, if the modality is text
image       binary   an encoded image, or null if `image_uri` names its location
image_uri   string   a local path or a URI, or null
{name}      one column for each scalar field, typed as the field
__vector__  list<float32>  only with reused vectors: the row's vector, or null if the row must be encoded;
            for sparse encoders a struct (`tasks.adapters.rows.vectors.sparse_vectors`)
__lengths__ int32[2]  only with reused vectors: tokens that the model reads and truncated tokens, or null if unknown
__cached__  bool     only with a cache: whether the vector came from it
__digest__  binary   only with a cache: digest of the embedded content, or null
"""

from __future__ import annotations

import pyarrow as pa

from tasks.adapters.rows.vectors.sparse_vectors import SPARSE_TYPE
from tasks.domain.job.source import Modality
from tasks.domain.target.fields import FieldType, ScalarField

# A source's batches have its own columns; Kitestring's columns have reserved names.
REASON_COLUMN = "__reason__"  # why this row cannot be read, or null
KEY_COLUMN = "__key__"  # the key that an image folder or a tar assigns to a row
TEXT_COLUMN = "__text__"  # a sample's caption, if it is embedded
IMAGE = "__image__"  # encoded image
IMAGE_URI = "__image_uri__"  # or its location

TAKEN_VECTOR = "__vector__"
CACHED = "__cached__"
ROW_DIGEST = "__digest__"
ROW_LENGTHS = "__lengths__"
LENGTHS_TYPE = pa.list_(pa.int32(), 2)
INTERNAL_COLUMNS = (TAKEN_VECTOR, ROW_LENGTHS, CACHED, ROW_DIGEST)  # not passed to encoders

VALID_TEXT = {b"kitestring": b"text"}  # metadata of a source's column whose strings are known to be UTF-8
JSON_TEXT = {b"kitestring": b"json"}  # metadata of a source's column whose strings are JSON texts

WRAPPED = "kitestring_value"  # key that wraps JSON other than objects, for servers that accept only objects

ARROW_TYPES: dict[FieldType, pa.DataType] = {
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "varchar": pa.string(),
    "json": pa.string(),  # the JSON text
    "int64[]": pa.list_(pa.int64()),
    "double[]": pa.list_(pa.float64()),
    "bool[]": pa.list_(pa.bool_()),
    "varchar[]": pa.list_(pa.string()),
}


def rows_schema(modality: Modality, fields: tuple[ScalarField, ...]) -> pa.Schema:
    """Return the schema above for one job."""
    content = [pa.field("text", pa.string())]
    if modality == "image":
        content = [pa.field("image", pa.large_binary()), pa.field("image_uri", pa.string())]
    scalars = [pa.field(f.name, ARROW_TYPES[f.type]) for f in fields]
    return pa.schema([pa.field("row", pa.int64()), pa.field("id", pa.string()), *content, *scalars])


def part_schema(fields: tuple[ScalarField, ...], *, store_text: bool, sparse: bool = False) -> pa.Schema:
    """Return a part's columns: exactly the collection's fields, so that a server can import the file. `sparse`: sparse vectors."""
    vectors = SPARSE_TYPE if sparse else pa.list_(pa.float32())
    text = [pa.field("text", pa.string())] if store_text else []
    scalars = [pa.field(f.name, ARROW_TYPES[f.type]) for f in fields]
    return pa.schema([pa.field("id", pa.string()), pa.field("vector", vectors), *text, *scalars, pa.field("shard", pa.string())])


def as_part(rows: pa.Table, vectors: pa.Array | pa.ChunkedArray, shard: str, schema: pa.Schema) -> pa.Table:
    """Combine rows in the form above and their vectors to a table with exactly the columns of a `part_schema`."""
    made = {"vector": vectors, "shard": pa.repeat(pa.scalar(shard, pa.string()), rows.num_rows)}
    columns = [made[name] if name in made else rows.column(name).cast(schema.field(name).type) for name in schema.names]
    return pa.table(columns, schema=schema)
