"""Tables of a lakehouse as their writers leave them, and what the libraries here cannot write: deletion vectors and position deletes."""

from __future__ import annotations

import json
import struct
import uuid
from base64 import b85encode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    AvroCompressionCodec,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyroaring import BitMap64

DELTA_VECTOR, PUFFIN_VECTOR = 1681511377, b"\xd1\xd3\x39\x64"
Z85 = bytes.maketrans(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
)


def change_log(table: Path, version: int, changed: dict[str, dict[str, Any]]) -> None:
    """Give actions of one commit of a Delta table other values."""
    log = table / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        for name, values in changed.items():
            action.get(name, {}).update(values)
    log.write_text("\n".join(map(json.dumps, actions)))


def delete_by_vector(table: Path, rows: list[int]) -> None:
    """Commit a deletion vector for the one file of a Delta table, in the log itself, as Spark does for a small one."""
    version = DeltaTable(table).version()
    log = table / "_delta_log"
    features = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    change_log(table, 0, {"protocol": features})
    actions = [json.loads(line) for line in (log / f"{version:020}.json").read_text().splitlines()]
    [add] = [action["add"] for action in actions if "add" in action]
    data = struct.pack("<I", DELTA_VECTOR) + BitMap64(rows).serialize()
    text = b85encode(data + b"\0" * (-len(data) % 4)).translate(Z85).decode()
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(rows)}
    gone = {"path": add["path"], "deletionTimestamp": add["modificationTime"], "dataChange": True}
    commit = [{"remove": gone}, {"add": {**add, "deletionVector": vector}}]
    (log / f"{version + 1:020}.json").write_text("\n".join(map(json.dumps, commit)))


def iceberg_table(folder: Path, rows: pa.Table, location: str | None = None, **store: str) -> Table:
    """An Iceberg table of a catalog in SQLite; it lies in `folder`/db/t, or elsewhere with properties of a store."""
    catalog = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}", **store)
    catalog.create_namespace("db")
    table = catalog.create_table("db.t", schema=rows.schema, location=location)
    table.append(rows)
    return table


class _DeleteManifest(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_by_position(table: Table, rows: dict[str, list[int]], content: DataFileContent = DataFileContent.POSITION_DELETES) -> None:
    """Commit a file of position deletes, as a merge-on-read writer does.

    Args:
        table: of format version 2, not partitioned.
        rows: positions by data file.
        content: what the manifest says that the file holds.
    """
    io, number, folder = PyArrowFileIO(), uuid.uuid4().int >> 66, table.location()
    data = f"{folder}/data/deletes-{number}.parquet"
    deletes = pa.table({"file_path": [path for path in rows for _ in rows[path]], "pos": [at for path in rows for at in rows[path]]})
    with io.new_output(data).create() as out:
        pq.write_table(deletes, out)
    file = DataFile.from_args(
        content=content,
        file_path=data,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=deletes.num_rows,
        file_size_in_bytes=len(io.new_input(data)),
    )
    file.spec_id = 0
    codec: AvroCompressionCodec = "null"
    sequence, now = table.metadata.last_sequence_number + 1, table.metadata.current_snapshot()
    assert now is not None
    with _DeleteManifest(table.spec(), table.schema(), io.new_output(f"{folder}/metadata/d{number}.avro"), number, codec) as writer:
        writer.add_entry(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=file))
    manifests = [*now.manifests(io), writer.to_manifest_file()]
    listed = f"{folder}/metadata/snap-{number}.avro"
    with write_manifest_list(2, io.new_output(listed), number, now.snapshot_id, sequence, codec) as lists:
        lists.add_manifests(manifests)
    _commit(
        table,
        Snapshot(
            **{
                "snapshot-id": number,
                "parent-snapshot-id": now.snapshot_id,
                "sequence-number": sequence,
                "manifest-list": listed,
                "summary": Summary(Operation.DELETE),
                "schema-id": table.metadata.current_schema_id,
            }
        ),
    )


def _commit(table: Table, snapshot: Snapshot) -> None:
    main = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot.snapshot_id)
    table._do_commit((AddSnapshotUpdate(snapshot=snapshot), main), ())


def puffin_of(data_file: str, rows: list[int]) -> bytes:
    """A Puffin file with one deletion vector, as writers of Iceberg's format version 3 leave it."""
    body = PUFFIN_VECTOR + BitMap64(rows).serialize()
    blob = struct.pack(">I", len(body)) + body + b"\0" * 4
    facts = {
        "type": "deletion-vector-v1",
        "fields": [],
        "snapshot-id": -1,
        "sequence-number": -1,
        "offset": 4,
        "length": len(blob),
        "properties": {"referenced-data-file": data_file, "cardinality": str(len(rows))},
    }
    footer = json.dumps({"blobs": [facts], "properties": {}}).encode()
    return b"PFA1" + blob + b"PFA1" + footer + struct.pack("<i", len(footer)) + b"\0" * 4 + b"PFA1"
