"""Seals: one made for a test, and one as the first version of Kitestring stored it."""

from __future__ import annotations

from typing import Any

from tasks.domain.shards.seal import Part, Seal

# As the first version of Kitestring wrote them, and what it knew them by: ledgers, owners, proofs and files of keys name it.
SEAL = (
    r'{"format_version":1,"shard":"5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f","name":"a.parquet","group":"a.parquet","run":"20261121T10'
    r'1500123-a1b2c3","attempt":"20261121T101500123-a1b2c3","dim":384,"source_rows":8,"embedded":5,"duplicates":1,"quarantined'
    r'":[{"row":2,"id":null,"reason":"empty text: no word"},{"row":5,"id":"ümlaut","reason":"missing image: gone.png"}],"parts'
    r'":[{"key":"docs/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c/shards/5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f/20261121T101500123-a1b2c3/part-'
    r'000000000-000000004.parquet","first":0,"stop":4,"rows":3,"bytes":1234,"sha256":"abababababababababababababababababababab'
    r'abababababababababababab","quarantined":[{"row":2,"id":null,"reason":"empty text: no word"}],"stats":{"tokens":17,"trunc'
    r'ated":1,"tokens_cut":3,"tokenize_seconds":0.001,"encode_seconds":0.25,"write_seconds":0.00001,"lengths":{"8":2,"16":1},"'
    r'backend":"torch"},"amendment":0},{"key":"docs/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c/shards/5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f/2'
    r'0261121T101500123-a1b2c3/part-000000004-000000008.parquet","first":4,"stop":8,"rows":2,"bytes":999,"sha256":"cdcdcdcdcdc'
    r'dcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","quarantined":[],"stats":{"tokens":0,"truncated":0,"tokens_cut":0'
    r',"tokenize_seconds":0.0,"encode_seconds":0.0,"write_seconds":0.0,"lengths":{},"backend":""},"amendment":0}],"seconds":1.'
    r'503,"sealed_at":"2026-11-21T10:15:02+00:00"}'
)
AMENDMENT = (
    r'{"format_version":1,"shard":"5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f","number":1,"run":"r2","parts":[{"key":"docs/0c0c0c0c0c0c0'
    r'c0c0c0c0c0c0c0c0c0c/shards/5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f/retry-r2/part-000000005-000000006.parquet","first":5,"stop":'
    r'6,"rows":1,"bytes":77,"sha256":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef","quarantined":[],"stat'
    r's":{"tokens":0,"truncated":0,"tokens_cut":0,"tokenize_seconds":0.0,"encode_seconds":0.0,"write_seconds":0.0,"lengths":{}'
    r',"backend":""},"amendment":0}],"recovered":[5],"duplicates":[],"quarantined":[{"row":2,"id":null,"reason":"empty text: n'
    r'o word"}],"seconds":0.5,"amended_at":"2026-11-22T10:15:02+00:00"}'
)
DIGEST, AMENDED = "a86fe9aba110a32cb02d5adbff492ae1", "bf5e14ebf86a437e8cf56d51b6db5de9"


def part(first: int, stop: int, rows: int | None = None) -> Part:
    return Part(key=f"p{first}", first=first, stop=stop, rows=stop - first if rows is None else rows, bytes=1, sha256="0" * 64)


def seal(*parts: Part, **changed: Any) -> Seal:
    embedded = sum(p.rows for p in parts)
    facts: dict[str, Any] = {"source_rows": embedded, "embedded": embedded, "duplicates": 0, "quarantined": (), **changed}
    told = {"shard": "s1", "name": "docs.parquet", "group": "docs.parquet", "run": "r", "attempt": "r", "dim": 4}
    return Seal(**told, parts=parts, seconds=1, sealed_at="2026-11-21T00:00:00+00:00", **facts)
