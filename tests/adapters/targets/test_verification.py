"""The proof finds what is wrong with a collection, and nothing where nothing is wrong."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.adapters.targets.memory_collection import MemoryCollection
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.adapters.targets.verification import CountPatience, prove
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.shards.seal import Seal
from tasks.domain.target.proof import compared, most_wrong, scope
from tests.builders.collections import DIM, Parts, asked, part_of, seal_of, spec_of

CLOCK = CountPatience(settle=0)


def three_shards(metric: str = "COSINE") -> list[tuple[Seal, Parts]]:
    made = []
    for s in range(3):
        tables = [part_of([f"k{s}-{p}-{i}" for i in range(50)], shard=f"s{s}", seed=10 * s + p) for p in range(2)]
        if metric == "IP":
            tables = [t.set_column(1, t.schema.field("vector"), pa.array(_unit(t), pa.list_(pa.float32()))) for t in tables]
        made.append(seal_of(f"s{s}", *tables))
    return made


def _unit(table: pa.Table) -> list[np.ndarray]:
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    return list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def loaded(seals: list[tuple[Seal, Parts]], metric: str = "COSINE") -> MemoryCollection:
    made = MemoryTarget(f"memory://{uuid.uuid4()}").collection("c")
    made.ensure(spec_of("c", metric=metric))
    for _, parts in seals:
        for table in parts.values():
            made.upsert(table)
    return made


def prove_it(collection, seals, **how):
    return prove(collection, asked(seals), **({"sample": 100, "seed": 7, "clock": CLOCK} | how))


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_a_right_collection_is_proved(metric):
    seals = three_shards(metric)
    proof = prove_it(loaded(seals, metric), seals)
    assert (proof.proved, proof.reasons) == (True, ())
    assert (proof.rows, proof.total, proof.sampled, proof.absent) == (300, 300, 100, 0)
    assert (proof.lowest_cosine, proof.recall_at_10) == (1.0, 1.0)
    assert [(c.sealed, c.found) for c in proof.counts] == [(100, 100)] * 3


def with_strangers(seals: list[tuple[Seal, Parts]]) -> MemoryCollection:
    collection = loaded(seals)
    collection.upsert(part_of([f"x{i}" for i in range(40)], shard="other", seed=99))
    return collection


@pytest.mark.parametrize("full", [False, True])
def test_rows_that_no_seal_accounts_for_are_counted_and_some_are_named_with_their_shard(full):
    seals = three_shards()
    proof = prove_it(with_strangers(seals), seals, full=full)
    assert (proof.proved, proof.rows, proof.total, proof.unaccounted, proof.foreign) == (False, 300, 340, 40, 0)
    assert proof.reasons[0] == "40 of 340 rows in the collection belong to no sealed shard"
    assert "key 'x3' carries shard 'other', which no seal accounts for" in proof.reasons
    assert sum("which no seal accounts for" in reason for reason in proof.reasons) == 10
    assert proof.kinds == {"unaccounted": 40}


def test_rows_of_others_do_no_harm_where_these_account_for_them():
    seals = three_shards()
    collection = with_strangers(seals)
    proof = prove_it(collection, seals, elsewhere=lambda: ["other", "s1", "not there"])
    assert (proof.proved, proof.unaccounted, proof.foreign, proof.exact) == (True, 0, 40, False)
    assert "40 rows of other writers" in compared(proof)[0]
    collection.upsert(part_of(["y"], shard="nobody's"))
    assert prove_it(collection, seals, elsewhere=lambda: ["other"]).unaccounted == 1


def test_where_a_collection_is_shared_rows_of_others_are_told_and_nobody_is_asked():
    seals = three_shards()
    proof = prove_it(with_strangers(seals), seals, shared=True, elsewhere=lambda: pytest.fail("asked"))
    assert (proof.proved, proof.unaccounted, proof.foreign) == (True, 0, 40)


@pytest.mark.parametrize("full", [False, True])
def test_nobody_else_is_asked_where_every_row_is_accounted_for(full):
    seals = three_shards()
    proof = prove_it(loaded(seals), seals, full=full, elsewhere=lambda: pytest.fail("asked"))
    assert (proof.proved, proof.unaccounted, proof.foreign) == (True, 0, 0)
    assert proof.exact is full  # a sample does not compare every row


def test_rows_beside_the_shards_are_waited_for():
    """A server that over-counts, again."""
    seals = three_shards()
    collection = with_strangers(seals)
    clock = CountPatience(settle=10, pause=2, sleep=lambda _: collection.delete_shard("other"), now=lambda: 0.0)
    assert prove_it(collection, seals, clock=clock).proved


def test_a_total_that_its_shards_do_not_make_up_is_told():
    seals = three_shards()
    collection = loaded(seals)
    count = collection.count
    collection.count = lambda shard=None: count(shard) + (shard is None)  # type: ignore[method-assign]
    assert prove_it(collection, seals).reasons == ("the collection has 301 rows in total, but 300 counted by shard",)


FIELDS_TOLD = {"url": ["v"], "year": [7], "price": [0.25], "fresh": [False], "tags": ['{"n": 1}'], "text": ["other"]}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("field", FIELDS_TOLD)
def test_another_value_of_any_field_is_found(field, full):
    seals = three_shards()
    collection = loaded(seals)
    part = seals[1][1]["shards/s1/part-0"].slice(4, 1)
    other = pa.array(FIELDS_TOLD[field], part.schema.field(field).type)
    collection.upsert(part.set_column(part.schema.get_field_index(field), field, other))
    proof = prove_it(collection, seals, sample=20 if full else 300, full=full)
    assert not proof.proved
    assert proof.reasons[0].startswith(f"key 'k1-0-4' differs from its seal in {field}")
    assert proof.kinds == {field: 1}
    assert proof.wrong_shards == ("s1",)


def test_everything_of_every_row_is_compared_and_watched():
    seals, seen = three_shards(), list[int]()
    collection = loaded(seals)
    proof = prove_it(collection, seals, sample=5, full=True, watch=seen.append)
    assert (proof.proved, proof.compared, proof.sampled, sum(seen), len(seen)) == (True, 300, 5, 300, 6)
    collection._rows["k2-1-9"]["vector"] = np.zeros(DIM, np.float32)
    proof = prove_it(collection, seals, sample=5, full=True)
    assert proof.reasons == ("key 'k2-1-9' differs from its seal in vector: cosine 0.000000",)
    assert [count.differences for count in proof.counts] == [0, 0, 1]


# ---- shards whose files have left the source ----


def test_a_retained_shard_may_have_lost_rows_to_a_newer_one():
    old = seal_of("s9", part_of(["a", "b", "k0-0-1"], shard="s9", seed=50))
    seals = three_shards()
    collection = loaded([old, *seals])
    for full in (False, True):
        proof = prove_it(collection, seals, sample=400, full=full, retained=asked([old]))
        assert (proof.proved, proof.reasons) == (True, ())
        assert (proof.rows, proof.retained, proof.total, proof.sampled, proof.exact) == (300, 2, 302, 302, True)
    assert "2 rows of 1 that are no longer in the source" in compared(proof)[0]


@pytest.mark.parametrize("full", [False, True])
def test_a_row_of_a_retained_shard_that_is_nowhere_or_with_nobody_known_is_found(full):
    old = seal_of("s9", part_of(["a", "b", "c", "k0-0-1"], shard="s9", seed=50))
    seals = three_shards()
    collection = loaded([old, *seals])
    del collection._rows["b"]
    collection.upsert(part_of(["c"], shard="s8"))
    proof = prove_it(collection, seals, sample=1, full=full, retained=asked([old]))
    assert "key 'b' of shard file-s9 is not in the collection" in proof.reasons
    assert "key 'c' of shard file-s9 is held by shard of another corpus (s8): a key in two shards" in proof.reasons
    assert not any("'k0-0-1'" in reason for reason in proof.reasons)
    assert (proof.unaccounted, proof.wrong_shards) == (1, ("s9",))


def test_a_retained_shard_with_a_row_too_many_is_found():
    old = seal_of("s9", part_of(["a", "b"], shard="s9", seed=50))
    collection = loaded([old])
    collection.upsert(part_of(["c"], shard="s9"))
    assert "key 'c' carries shard file-s9 but is not in its seal" in prove_it(collection, [], retained=asked([old])).reasons


def test_a_retained_shard_without_its_seal_is_counted_and_cannot_be_compared():
    seal, _ = seal_of("s9", part_of(["a", "b"], shard="s9", seed=50))
    collection, bare = loaded([seal_of("s9", part_of(["a", "b"], shard="s9", seed=50))]), seal.model_copy(update={"parts": ()})
    assert prove_it(collection, [], retained=asked([(bare, {})])).proved
    reasons = prove_it(collection, [], retained=asked([(bare, {})]), full=True).reasons
    assert reasons == ("the seals of 1 shards that left the source are missing, so their rows cannot be compared",)


def test_a_lost_row_is_named():
    seals = three_shards()
    collection = loaded(seals)
    del collection._rows["k1-0-7"]
    proof = prove_it(collection, seals, sample=10)
    assert not proof.proved
    assert "shard file-s1 (s1): 100 rows sealed, 99 in the collection" in proof.reasons
    assert "key 'k1-0-7' of shard file-s1 is not in the collection" in proof.reasons


def test_a_key_in_two_shards_is_named_with_both():
    seals = [seal_of("s0", part_of(["a", "b"], shard="s0")), seal_of("s1", part_of(["b", "c"], shard="s1", seed=1))]
    proof = prove_it(loaded(seals), seals)
    assert not proof.proved
    assert "key 'b' of shard file-s0 is held by shard file-s1 (s1): a key in two shards" in proof.reasons


def test_at_most_ten_lost_keys_are_named():
    seals = three_shards()
    collection = loaded(seals[1:])
    reasons = prove_it(collection, seals, sample=1).reasons
    assert sum("is not in the collection" in reason for reason in reasons) == 10


def test_a_collection_that_is_all_wrong_is_told_in_few_lines():
    seals = [seal_of(f"s{i}", part_of([f"k{i}-{j}" for j in range(20)], shard=f"s{i}", seed=i)) for i in range(30)]
    reasons = prove_it(loaded([]), seals, sample=50).reasons
    assert "30 of 30 shards do not match their seals; the first 10 are named" in reasons
    assert len(reasons) < 130


def test_a_row_too_many_is_told_after_waiting_for_the_server_to_settle():
    seals = three_shards()
    collection = loaded(seals)
    collection.upsert(part_of(["extra"], shard="s2"))
    slept: list[float] = []
    clock = CountPatience(settle=10, pause=2, sleep=slept.append, now=lambda: sum(slept))
    proof = prove_it(collection, seals, clock=clock)
    assert proof.reasons == (
        "shard file-s2 (s2): 100 rows sealed, 101 in the collection",
        "key 'extra' carries shard file-s2 but is not in its seal",
    )
    assert sum(slept) == 10


def test_a_count_that_settles_is_waited_for():
    seals = three_shards()
    collection = loaded(seals)
    collection.upsert(part_of(["extra"], shard="s2"))
    clock = CountPatience(settle=10, pause=2, sleep=lambda _: collection._rows.pop("extra", None), now=lambda: 0.0)
    assert prove_it(collection, seals, clock=clock).proved


def test_another_vector_is_named():
    seals = three_shards()
    collection = loaded(seals)
    collection.upsert(part_of(["k0-0-3"], shard="s0", seed=1234))
    proof = prove_it(collection, seals, sample=300)
    assert not proof.proved
    assert any(reason.startswith("key 'k0-0-3' differs from its seal in vector: cosine") for reason in proof.reasons)
    assert proof.lowest_cosine is not None
    assert proof.lowest_cosine < 0.9999


def test_a_vector_of_another_length_is_named():
    seals = three_shards("IP")
    collection = loaded(seals, "IP")
    collection._rows["k0-0-3"]["vector"] = collection._rows["k0-0-3"]["vector"] * 2
    assert any("'k0-0-3'" in reason for reason in prove_it(collection, seals, sample=300).reasons)


def test_an_index_that_does_not_find_the_rows_is_caught():
    """Hits that are real rows of the collection, only not the nearest."""
    seals = three_shards()
    collection = loaded(seals)
    search = collection.search
    collection.search = lambda vectors, k: search(-vectors, k)  # type: ignore[method-assign]
    proof = prove_it(collection, seals)
    assert proof.recall_at_10 is not None
    assert proof.recall_at_10 < 0.5
    assert any("recall@10" in reason for reason in proof.reasons)


def test_rows_that_tie_are_not_missed():
    same = [[1.0] + [0.0] * (DIM - 1)] * 30
    seals = [seal_of("s0", part_of([f"k{i}" for i in range(30)], shard="s0", vector=same))]
    proof = prove_it(loaded(seals), seals)
    assert (proof.proved, proof.recall_at_10) == (True, 1.0)


def test_the_sample_is_spread_and_repeats_with_its_seed():
    seals = three_shards()
    collection = loaded(seals)
    drawn: list[list[str]] = []
    compare = collection.compare
    collection.compare = lambda rows, **how: (drawn.append(rows["id"].to_pylist()), compare(rows, **how))[1]  # type: ignore[method-assign]
    for seed in (1, 1, 2):
        prove_it(collection, seals, sample=60, seed=seed)
    assert drawn[0] == drawn[1] != drawn[2]
    assert {key.split("-")[0] for key in drawn[0]} == {"k0", "k1", "k2"}
    assert len(set(drawn[0])) == 60


def test_a_seed_that_nobody_gave_is_drawn_anew_and_noted():
    seals = three_shards()
    first, second = (prove_it(loaded(seals), seals, sample=10, seed=None).seed for _ in range(2))
    assert first != second


def test_nothing_sealed_is_proved_by_nothing():
    proof = prove_it(loaded([]), [])
    assert (proof.proved, proof.sampled, proof.lowest_cosine, proof.recall_at_10) == (True, 0, None, None)


def test_an_empty_shard_counts_zero():
    seals = [seal_of("s0"), seal_of("s1", part_of(["a"], shard="s1"))]
    proof = prove_it(loaded(seals), seals)
    assert (proof.proved, [c.found for c in proof.counts]) == (True, [0, 1])


def test_a_key_in_anothers_place_is_found_by_the_digest_of_all_keys():
    """The count is right and the sample is unlikely to have it."""
    seals = three_shards()
    collection = loaded(seals)
    assert prove_it(collection, seals, full=True).proved
    collection._rows["strange"] = {**collection._rows.pop("k1-0-7"), "id": "strange"}
    drawn = {"sample": 5, "seed": 1}
    assert prove_it(collection, seals, **drawn).proved
    reasons = prove_it(collection, seals, full=True, **drawn).reasons
    assert "shard file-s1 (s1): 100 rows sealed, 100 in the collection, and other keys" in reasons
    assert "key 'k1-0-7' of shard file-s1 is not in the collection" in reasons
    assert "key 'strange' carries shard file-s1 but is not in its seal" in reasons


def test_what_was_compared_is_told_with_the_index_and_how_sure_it_makes():
    seals = three_shards()
    proof = prove_it(loaded(seals), seals, sample=100, search={"ef": 64})
    assert scope(proof) == "counts of all rows, and a sample of 100 vectors and their fields"
    lines = " | ".join(compared(proof))
    assert "3 shards, 300 rows: their counts by shard, and the total, with strong consistency" in lines
    assert "100 of 300 rows with their vectors and fields" in lines
    assert "seed 7" in lines
    assert "with 95% confidence fewer than 2.95% are wrong" in lines
    assert "(index AUTOINDEX ef=64)" in lines
    every = prove_it(loaded(seals), seals, sample=100, full=True)
    assert scope(every) == "every row: its key once, its vector, its fields and its shard"
    assert "every row: key once, vector, 8 fields in all" in compared(every)[1]


def test_a_sample_without_a_wrong_row_bounds_the_share_of_wrong_rows():
    assert most_wrong(0, 100) is None
    assert most_wrong(100, 100) == 0
    assert most_wrong(1_000, 10**9) == pytest.approx(0.003, rel=0.01)  # the rule of three
    for sampled in (10, 299, 1_000):
        bound = most_wrong(sampled, 10**9)
        assert (1 - bound) ** sampled == pytest.approx(0.05)


def test_no_collection_is_said():
    with pytest.raises(BadInput, match="no collection to verify"):
        prove_it(MemoryTarget(f"memory://{uuid.uuid4()}").collection("c"), three_shards())


@pytest.mark.server
def test_a_real_server_is_proved_and_its_lost_rows_are_found(milvus_server):
    seals, name = three_shards(), f"c_{uuid.uuid4().hex[:12]}"
    collection = MilvusTarget(milvus_server.uri).collection(name)
    collection.ensure(spec_of(name))
    for _ in range(2):  # upserts over upserts are what 2.3 over-counts
        for _, parts in seals:
            for table in parts.values():
                collection.upsert(table)
    assert prove_it(collection, seals).reasons == ()
    collection.delete_shard("s1")
    lost = prove_it(collection, seals)
    assert "shard file-s1 (s1): 100 rows sealed, 0 in the collection" in lost.reasons
    assert lost.absent > 0
    collection.target.close()


def test_only_parts_with_sampled_rows_are_read_however_many_there_are():
    seals = [seal_of(f"s{i}", part_of([f"k{i}-{j}" for j in range(4)], shard=f"s{i}", seed=i)) for i in range(300)]
    collection, reads = loaded(seals), list[str]()
    watched = [(seal, lambda part, parts=parts: (reads.append(part.key), parts[part.key])[1]) for seal, parts in seals]
    proof = prove(collection, watched, sample=20, seed=3, clock=CLOCK)
    assert (proof.proved, proof.sampled, len(proof.counts)) == (True, 20, 300)
    assert len(reads) == len(set(reads)) <= 20


def test_a_proof_of_an_earlier_version_is_read_and_counts_for_its_own_seals():
    old = {"format_version": 1, "proved": True, "reasons": [], "counts": [], "rows": 3, "total": 9, "sampled": 1, "absent": 0}
    old |= {"lowest_cosine": 1.0, "recall_at_10": 1.0, "index": "", "covers": "c", "seed": 0, "seconds": 1.0}
    store = MemoryStore(uuid.uuid4().hex)
    ledger = Ledger(store, "corpus", "f" * 32)
    store.write(ledger.layout.verified("t"), json.dumps(old).encode())
    proof = ledger.read_proof("t")
    assert proof is not None
    assert (proof.holds_for("c", "id"), proof.holds_for("other", "id"), proof.exact) == (True, False, False)
    new = proof.model_copy(update={"format_version": 2, "collection": "id"})
    ledger.record_proof("t", new)
    assert ledger.read_proof("t") == new
    assert (new.holds_for("c", "id"), new.holds_for("c", "made anew")) == (True, False)
    store.write(ledger.layout.verified("t"), json.dumps(old | {"format_version": 3}).encode())
    with pytest.raises(Permanent, match="reads up to 2"):
        ledger.read_proof("t")
