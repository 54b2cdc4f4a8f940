"""What a seal is known by."""

from __future__ import annotations

from tasks.domain.shards.amendment import Amendment, amended
from tasks.domain.shards.seal import EncodeStats, Seal

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


class Later(Seal):
    """A seal as a later version may have it."""

    normalised: bool = False


def test_a_seal_names_every_backend_that_made_a_part_of_it() -> None:
    parts = [EncodeStats(backend="torch"), EncodeStats(backend="openvino"), EncodeStats(backend="torch"), EncodeStats()]
    assert sum(parts, EncodeStats()).backend == "openvino and torch"
    assert sum(parts[:1], EncodeStats()).backend == "torch"


def test_a_stored_seal_keeps_the_digest_that_others_name() -> None:
    assert Seal.model_validate_json(SEAL).digest == DIGEST


def test_so_does_an_amended_one() -> None:
    assert amended(Seal.model_validate_json(SEAL), [Amendment.model_validate_json(AMENDMENT)]).digest == AMENDED


def test_a_field_of_a_later_version_counts_where_it_is_not_at_its_default() -> None:
    seal = Later.model_validate_json(SEAL)
    assert seal.digest == DIGEST
    assert seal.model_copy(update={"normalised": True}).digest != DIGEST
