"""The checkpoint: seals that one run wins, parts that are believed only when they are whole, a ledger."""

import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint, put_pin, read_pin
from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.checkpoint.part_files import sha256_of_part, write_part
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.digest import digest
from tasks.domain.errors import OutcomeUnknown, Permanent, Transient
from tasks.domain.ports import Store
from tasks.domain.shards.seal import Seal
from tasks.domain.target.proof import Proof
from tests.builders.checkpoints import IDENTITY, META, RECORD, SHARD, TARGET, loaded, make_table, nothing_recovered, put_part, seal_of


class TestSeals:
    """The commit of a shard."""

    def test_a_seal_comes_back_as_it_was(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        seal = seal_of(put_part(checkpoint, tmp_path, 0, 5, aside=1))
        assert checkpoint.read_seal(SHARD) is None
        assert checkpoint.seal(seal) == seal
        assert checkpoint.read_seal(SHARD) == seal == checkpoint.effective_seal(SHARD)

    def test_the_loser_adopts_the_winners_seal(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        part = put_part(checkpoint, tmp_path, 0, 5)
        ours, theirs = seal_of(part, run="ours"), seal_of(part, run="theirs")
        checkpoint.seal(theirs)
        assert checkpoint.seal(ours) == theirs

    def test_racing_runs_agree_on_one_seal(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        part = put_part(checkpoint, tmp_path, 0, 5)
        told: list[str] = []
        threads = [threading.Thread(target=lambda n=n: told.append(checkpoint.seal(seal_of(part, run=f"run-{n}")).run)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 8
        assert len(set(told)) == 1

    def test_a_seal_that_breaks_the_law_of_accounted_rows_is_not_written(self, quick: Checkpoint, tmp_path: Path) -> None:
        bad = seal_of(put_part(quick, tmp_path, 0, 5)).model_copy(update={"source_rows": 6})
        with pytest.raises(Permanent, match="6 source rows"):
            quick.seal(bad)
        assert quick.read_seal(SHARD) is None

    def test_one_listing_tells_what_is_sealed_and_amended(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        shards = [digest(n) for n in range(5)]
        for shard in shards[:3]:
            checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 2, shard=shard, aside=1), shard=shard))
        put_part(checkpoint, tmp_path, 0, 2, shard=shards[3])
        checkpoint.amend(nothing_recovered(shards[1]))
        survey = checkpoint.survey()
        assert [shard in survey.sealed for shard in shards] == [True, True, True, False, False]
        assert len(checkpoint.sealed_ids()) == 3
        assert survey.amended == {shards[1]}

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "not JSON"),
            (b'{"format_version": 1, "shard"', "not JSON"),
            (b"\x80\x04K\x01.", "not JSON"),
            (b'{"format_version": 5}', r"written by a newer Kitestring \(format 5; this version reads up to 4\): upgrade"),
            (b'{"format_version": 2}', "its checksum"),
            (b'{"format_version": "1"}', "damaged: format_version"),
            (b"[]", "damaged"),
            (b'{"format_version": 1, "shard": 3}', "damaged"),
        ],
    )
    def test_a_damaged_or_newer_seal_is_named(self, quick: Checkpoint, data: bytes, words: str) -> None:
        quick.store.write(quick.layout.seal(SHARD), data)
        with pytest.raises(Permanent, match=f"shards/{SHARD}/seal.json: .*{words}"):
            quick.read_seal(SHARD)

    def test_a_commit_that_nobody_can_tell_may_be_made_again(
        self, quick: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seal, commit = seal_of(put_part(quick, tmp_path, 0, 5)), quick.store.commit

        def lost(key: str, data: bytes) -> bool:
            commit(key, data)
            raise OutcomeUnknown("no answer")

        with monkeypatch.context() as patch:
            patch.setattr(quick.store, "commit", lost)
            with pytest.raises(Transient, match="no answer"):
                quick.seal(seal)
        assert quick.seal(seal) == seal


class TestParts:
    """What earlier attempts left, and what a seal names."""

    def test_finished_parts_of_earlier_attempts_are_taken_over(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        parts = [
            put_part(checkpoint, tmp_path, 0, 5),
            put_part(checkpoint, tmp_path, 9, 12, attempt="b", aside=2),
            put_part(checkpoint, tmp_path, 5, 9, aside=4),
        ]
        put_part(checkpoint, tmp_path, 0, 5, shard=digest("another"))
        assert checkpoint.adoptable(SHARD) == sorted(parts, key=lambda part: part.first)

    def test_nothing_is_adoptable_where_nothing_is(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.adoptable(SHARD) == []

    def test_of_overlapping_parts_one_is_taken(self, quick: Checkpoint, tmp_path: Path) -> None:
        put_part(quick, tmp_path, 0, 5)
        longer = put_part(quick, tmp_path, 0, 8, attempt="b")
        put_part(quick, tmp_path, 6, 10, attempt="c")
        twin = put_part(quick, tmp_path, 8, 10, attempt="a")
        put_part(quick, tmp_path, 8, 10, attempt="d")
        assert quick.adoptable(SHARD) == [longer, twin]

    @pytest.mark.parametrize("damage", ["cut", "flipped", "not parquet", "another shard's", "another range's", "too many rows"])
    def test_a_part_that_is_not_what_its_key_says_is_passed_over(self, quick: Checkpoint, tmp_path: Path, damage: str) -> None:
        part = put_part(quick, tmp_path, 0, 500, shard=digest("another") if damage == "another shard's" else SHARD)
        data = bytearray(quick.store.read(part.key) or b"")
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        elif damage == "cut":
            data = data[:-1]
        elif damage == "not parquet":
            data = bytearray(b"x" * 100)
        elif damage == "too many rows":
            meta = META.model_copy(update={"shard": SHARD, "first": 0, "stop": 500})
            write_part(tmp_path / "x", make_table(500), meta)  # one row is in quarantine as well
            data = bytearray((tmp_path / "x").read_bytes())
        stop = 501 if damage == "another range's" else 500
        quick.store.delete(part.key)
        quick.store.write(quick.layout.part(SHARD, "b", 0, stop), bytes(data))
        good = put_part(quick, tmp_path, 500 + 1, 502)
        assert quick.adoptable(SHARD) == [good]

    def test_a_sealed_part_is_read_after_its_checksum(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        part = put_part(checkpoint, tmp_path, 0, 5)
        assert checkpoint.verified_part(part).equals(make_table(5))

    def test_a_sealed_part_that_changed_is_named(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        part, other = put_part(checkpoint, tmp_path, 0, 5), put_part(checkpoint, tmp_path, 0, 6)
        checkpoint.store.write(part.key, checkpoint.store.read(other.key) or b"")
        with pytest.raises(Permanent, match=f"{part.key}: not the bytes that were sealed"):
            checkpoint.verified_part(part)

    def test_a_sealed_part_that_is_gone_is_named(self, quick: Checkpoint, tmp_path: Path) -> None:
        part = put_part(quick, tmp_path, 0, 5)
        quick.store.delete(part.key)
        with pytest.raises(Permanent, match=f"{part.key}: a sealed part is missing"):
            quick.verified_part(part)

    def test_a_seal_cannot_lead_outside_of_its_checkpoint(self, quick: Checkpoint, tmp_path: Path) -> None:
        part = put_part(quick, tmp_path, 0, 5).model_copy(update={"key": "other/corpus/part.parquet"})
        with pytest.raises(Permanent, match="outside"):
            quick.verified_part(part)

    def test_parts_of_a_shard_are_only_its_parts(self, quick: Checkpoint, tmp_path: Path) -> None:
        part = put_part(quick, tmp_path, 0, 5)
        quick.seal(seal_of(part))
        assert [found.key for found in quick.parts_of(SHARD)] == [part.key]


class TestAmendments:
    """Retries of quarantined rows."""

    def test_a_recovered_row_stands_in_the_effective_seal(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        seal = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5, aside=1)))
        again = put_part(checkpoint, tmp_path, 0, 1, attempt="retry")
        amendment = nothing_recovered(SHARD).model_copy(update={"parts": (again,), "recovered": (0,), "quarantined": ()})
        assert checkpoint.amend(amendment) == amendment
        effective = checkpoint.effective_seal(SHARD)
        assert effective
        assert (effective.embedded, effective.quarantined) == (5, ())
        assert sum(checkpoint.verified_part(part).num_rows for part in effective.parts) == 5
        assert checkpoint.read_seal(SHARD) == seal, "a seal never changes"

    def test_amendments_follow_each_other(self, quick: Checkpoint, tmp_path: Path) -> None:
        quick.seal(seal_of(put_part(quick, tmp_path, 0, 5, aside=1)))
        for number in (1, 2, 3):
            quick.amend(nothing_recovered(SHARD, number))
        assert [a.number for a in quick.amendments(SHARD)] == [1, 2, 3]

    def test_the_slower_of_two_retries_is_told_the_others_outcome(self, quick: Checkpoint, tmp_path: Path) -> None:
        quick.seal(seal_of(put_part(quick, tmp_path, 0, 5, aside=1)))
        first = quick.amend(nothing_recovered(SHARD))
        assert quick.amend(nothing_recovered(SHARD).model_copy(update={"run": "slower"})) == first

    def test_an_amendment_that_does_not_fit_is_not_written(self, quick: Checkpoint, tmp_path: Path) -> None:
        with pytest.raises(Permanent, match="not sealed"):
            quick.amend(nothing_recovered(SHARD))
        quick.seal(seal_of(put_part(quick, tmp_path, 0, 5)))
        with pytest.raises(Permanent, match="quarantine"):
            quick.amend(nothing_recovered(SHARD))
        assert quick.amendments(SHARD) == []


class TestLedger:
    """What is in which collection."""

    def test_entries_come_and_go(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        seals = [seal_of(put_part(checkpoint, tmp_path, 0, 2, shard=shard), shard=shard) for shard in map(digest, range(3))]
        for seal in seals:
            checkpoint.record_load(TARGET, loaded(seal))
        checkpoint.record_load(TARGET, loaded(seals[0]))
        checkpoint.forget_load(TARGET, seals[1].shard)
        assert sorted(entry.shard for entry in checkpoint.loads(TARGET)) == sorted([seals[0].shard, seals[2].shard])
        assert sorted(checkpoint.loaded_ids(TARGET)) == sorted([seals[0].shard, seals[2].shard])
        assert list(checkpoint.loads("another")) == []

    def test_a_proof_stands_beside_the_ledger_and_is_no_entry(self, checkpoint: Checkpoint) -> None:
        proof = Proof(
            proved=True,
            reasons=(),
            counts=(),
            rows=0,
            total=0,
            sampled=0,
            absent=0,
            lowest_cosine=None,
            recall_at_10=None,
            seed=1,
            seconds=0.1,
        )
        assert checkpoint.read_proof(TARGET) is None
        checkpoint.record_proof(TARGET, proof)
        assert checkpoint.read_proof(TARGET) == proof
        assert list(checkpoint.loads(TARGET)) == []
        assert len(checkpoint.loaded_ids(TARGET)) == 0

    def test_an_amended_shard_is_not_up_to_date_until_it_is_loaded_again(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        other = digest("other")
        seal = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5, aside=1)))
        checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 2, shard=other), shard=other))
        assert SHARD not in checkpoint.up_to_date(TARGET)
        checkpoint.record_load(TARGET, loaded(seal))
        assert SHARD in checkpoint.up_to_date(TARGET)
        assert other not in checkpoint.up_to_date(TARGET)
        checkpoint.amend(nothing_recovered(SHARD))
        assert SHARD not in checkpoint.up_to_date(TARGET)
        newest = checkpoint.effective_seal(SHARD)
        assert newest
        checkpoint.record_load(TARGET, loaded(newest))
        assert SHARD in checkpoint.up_to_date(TARGET)

    def test_what_was_loaded_of_a_seal_that_is_gone_is_not_up_to_date(self, quick: Checkpoint, tmp_path: Path) -> None:
        quick.record_load(TARGET, loaded(seal_of(put_part(quick, tmp_path, 0, 2))))
        assert SHARD not in quick.up_to_date(TARGET)


class TestEncoder:
    """What the vectors were made with."""

    def test_the_record_comes_back_with_its_fingerprint_told(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.read_encoder() is None
        assert checkpoint.put_encoder(RECORD) == RECORD
        assert checkpoint.read_encoder() == RECORD
        assert IDENTITY.fingerprint.encode() in (checkpoint.store.read(checkpoint.layout.encoder) or b"")

    def test_the_first_record_stands(self, quick: Checkpoint) -> None:
        quick.put_encoder(RECORD)
        moved = RECORD.model_copy(update={"identity": IDENTITY.model_copy(update={"model": "the same weights elsewhere"})})
        assert quick.put_encoder(moved) == RECORD

    def test_another_encoders_record_is_refused(self, quick: Checkpoint) -> None:
        other = RECORD.model_copy(update={"identity": IDENTITY.model_copy(update={"weights": "others"})})
        with pytest.raises(Permanent, match=r"encoder\.json"):
            quick.put_encoder(other)
        quick.store.write(quick.layout.encoder, other.model_dump_json().encode())
        with pytest.raises(Permanent, match=r"encoder\.json"):
            quick.read_encoder()

    def test_a_pin_is_settled_once(self, store: Store) -> None:
        other = RECORD.model_copy(update={"identity": IDENTITY.model_copy(update={"precision": "bfloat16"})})
        assert read_pin(store, "pydocs", "declared") is None
        assert put_pin(store, "pydocs", "declared", RECORD) == RECORD
        assert put_pin(store, "pydocs", "declared", other) == RECORD
        assert read_pin(store, "pydocs", "declared") == RECORD
        assert read_pin(store, "another", "declared") is None

    def test_a_pin_of_a_newer_format_is_named(self, quick: Checkpoint) -> None:
        quick.store.write("pydocs/encoders/d.json", b'{"identity": {"format_version": 9}}')
        with pytest.raises(Permanent, match=r"encoders/d\.json: written by a newer Kitestring \(format 9"):
            read_pin(quick.store, "pydocs", "d")


def test_reports_are_kept_and_the_newest_is_found(checkpoint: Checkpoint) -> None:
    assert checkpoint.latest_report() is None
    url = checkpoint.write_report("20261121T000000-a", "report.html", b"<p>")
    checkpoint.write_report("20261122T000000-a", "report.json", b"{}")
    assert checkpoint.latest_report() == url == checkpoint.url_of_report("20261121T000000-a", "report.html")
    newer = checkpoint.write_report("20261122T000000-a", "report.html", b"<p>")
    assert checkpoint.latest_report() == newer
    assert checkpoint.store.read(newer.removeprefix(f"{checkpoint.store.url}/")) == b"<p>"


class TestDigestSet:
    """Ids of a million shards."""

    def test_holds_what_was_put_in_and_nothing_else(self) -> None:
        ids = [digest(n) for n in range(1_000)] + ["00" * 16, "ff" * 16, "ab" * 15 + "00", digest(0)]
        held = DigestSet([*ids, "not a digest", ""])
        assert len(held) == 1_003
        assert all(each in held for each in ids)
        assert not any(digest(-n) in held for n in range(1, 1_000))
        assert sorted(held) == sorted(set(ids))
        for other in ("not a digest", "", None, 3, "ab" * 15, "AB" * 16):
            assert other not in held

    def test_nothing_is_in_an_empty_one(self) -> None:
        assert digest(1) not in DigestSet()
        assert len(DigestSet()) == 0

    def test_takes_16_bytes_for_each(self) -> None:
        tracemalloc.start()
        held = DigestSet(f"{n:032x}" for n in range(200_000))
        current, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"{199_999:032x}" in held
        assert held.nbytes == 3_200_000
        assert peak < 20_000_000
        assert current < 8_000_000


def test_a_document_that_is_not_there_is_none(store: Store) -> None:
    assert read_document(store, "no/where.json", Seal) is None


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_part(tmp_path / "x") == sha256_of_part(b"abc")
    with pytest.raises(Permanent, match=f"{tmp_path}/y"):
        sha256_of_part(tmp_path / "y")


def test_tables_of_parts_are_arrow(quick: Checkpoint, tmp_path: Path) -> None:
    assert isinstance(quick.verified_part(put_part(quick, tmp_path, 0, 1)), pa.Table)
