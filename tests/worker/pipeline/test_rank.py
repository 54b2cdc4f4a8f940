"""Ranks as they run: real torchrun, a real model, a real socket and store."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tasks.adapters.checkpoint.part_files import part_vectors, read_part
from tasks.domain.encoding.protocol import Done, Fault, Heartbeat, Hello, Piece
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.encoders.registry import open_encoder
from tests.builders.held_model import make_held_model
from tests.builders.models import Clip
from tests.builders.worker.coordinator import Heard, Launch, write_rows
from tests.builders.worker.pictures import saved, scene


def words(count: int) -> list[str]:
    return [f"the {'cat ' * (n % 37)}number {n}" for n in range(count)]


def cut(scratch: Path, texts: list[str], rows: int, **settings: Any) -> deque[Piece]:
    """Pieces of so many rows."""
    return deque(piece(scratch, first, texts[first : first + rows], **settings) for first in range(0, len(texts), rows))


def piece(scratch: Path, first: int, texts: list[str], **settings: Any) -> Piece:
    path = write_rows(scratch / f"rows-{first}.arrow", first, {"text": texts})
    stop = first + len(texts)
    return Piece(shard="s1", first=first, stop=stop, rows=str(path), key=f"c/f/shards/s1/a/part-{first:09d}-{stop:09d}.parquet", **settings)


def launch_of(scratch: Path, model: Path, **settings: Any) -> Launch:
    encoder = SentenceTransformersEncoder(model=str(model), trust_remote_code=any(model.glob("*.py")))
    return Launch(scratch=scratch, encoder=encoder, model_path=str(model), **settings)


def stored(launch: Launch) -> dict[str, np.ndarray]:
    """Every row in the store: id to vector; a row that is there twice fails."""
    found: dict[str, np.ndarray] = {}
    for done in launch.said(Done):
        table, _ = read_part((launch.scratch / "store" / done.part.key).read_bytes(), done.part.key)
        ids = table.column("id").to_pylist()
        assert not found.keys() & set(ids)
        found.update(zip(ids, part_vectors(table), strict=False))
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Launch:
    """Two ranks that have worked through 1,001 rows in pieces of 90, and met one piece that cannot be read."""
    scratch = tmp_path_factory.mktemp("ranks")
    pieces = cut(scratch, words(1001), 90)
    unreadable = piece(scratch, 5000, ["lost"])
    Path(unreadable.rows).write_bytes(b"not arrow")
    pieces.insert(3, unreadable)
    with launch_of(scratch, tiny_model, ranks=2, pieces=pieces, compute=Compute(device="cpu", batch_rows=40)) as launch:
        assert launch.wait() == 0, launch.log
    return launch


def test_two_ranks_encode_each_row_once_with_its_own_vector(served: Launch, tiny_model: Path) -> None:
    vectors = stored(served)
    assert sorted(vectors, key=lambda key: int(key[1:])) == [f"r{n}" for n in range(1001)]
    encoder = open_encoder(SentenceTransformersEncoder(), model_path=str(tiny_model), precision="float32")
    expected = encoder.encode(words(1001))
    assert min(float(expected[n] @ vectors[f"r{n}"]) for n in range(1001)) > 0.99999


def test_both_ranks_take_part(served: Launch) -> None:
    assert sorted(hello.rank for hello in served.said(Hello)) == [0, 1]
    assert {number for number, message in served.heard if isinstance(message, Done)} == {1, 2}


def test_parts_hold_the_sources_order_and_say_what_they_took(served: Launch) -> None:
    [done] = [done for done in served.said(Done) if done.part.first == 0]
    table, meta = read_part((served.scratch / "store" / done.part.key).read_bytes(), "part")
    assert table.column_names == ["id", "vector", "text", "shard"]
    assert table.column("id").to_pylist() == [f"r{n}" for n in range(90)]
    assert table.column("text").to_pylist() == words(90)
    assert set(table.column("shard").to_pylist()) == {"s1"}
    assert (meta.first, meta.stop, done.part.rows) == (0, 90, 90)
    assert sum(done.part.stats.lengths.values()) == 90
    assert done.part.stats.tokens > 90
    assert done.part.stats.truncated > 0
    assert done.part.stats.encode_seconds > 0 < done.part.stats.write_seconds


def test_ranks_that_are_not_forked_do_the_same(tmp_path: Path, tiny_model: Path) -> None:
    """As on GPUs."""
    with launch_of(tmp_path, tiny_model, ranks=2, pieces=cut(tmp_path, words(60), 30), forked=False) as launch:
        assert launch.wait() == 0, launch.log
    assert len(stored(launch)) == 60


def test_a_rank_that_is_done_leaves_while_the_other_works(tmp_path: Path, faulty_model: Path) -> None:
    """It waits for nobody: torchrun would never end where a rank was killed while it waited for the others."""
    with launch_of(tmp_path, faulty_model, ranks=2, pieces=cut(tmp_path, ["hang"], 1)) as launch:
        until = time.monotonic() + 60
        gone: list[int] = []
        while not (gone and launch.said(Heartbeat)) and time.monotonic() < until:
            gone = [hello.pid for hello in launch.said(Hello) if not psutil.pid_exists(hello.pid)]
            time.sleep(0.05)
        assert len(gone) == 1
        assert launch.process.poll() is None


def test_a_rank_says_where_it_is_before_each_batch(served: Launch) -> None:
    for part in (done.part for done in served.said(Done)):
        said = [at for at in served.said(Heartbeat) if at.key == part.key]
        assert sorted(row for at in said for row in at.rows) == list(range(part.first, part.stop))
        assert [at.done for at in said] == [sum(len(before.rows) for before in said[:n]) for n in range(len(said))]


def test_a_piece_that_cannot_be_read_is_told_and_the_next_one_is_taken(served: Launch) -> None:
    [fault] = served.said(Fault)
    assert fault.leaf == "permanent"
    assert "part-000005000-" in fault.key


def test_a_launch_leaves_nothing_but_parts_in_its_scratch(served: Launch) -> None:
    assert not list(served.scratch.glob("part-*"))


def test_suspects_are_alone_barred_rows_unseen_and_bad_rows_set_aside(tmp_path: Path, faulty_model: Path) -> None:
    """A crash that is barred, too little memory for a batch, an error in the model, NaN: each costs its own row."""
    texts = ["the of and"] * 300
    texts[1], texts[17], texts[130], texts[299] = "crash", "boom", "poison", "flood"
    with launch_of(tmp_path, faulty_model, pieces=cut(tmp_path, texts, 300, suspects=(0, 3), barred=(1,))) as launch:
        assert launch.wait() == 0
    assert [at.rows for at in launch.said(Heartbeat)][:2] == [(0,), (3,)]
    [done] = launch.said(Done)
    assert {q.row: (q.id, q.reason.split(":")[0]) for q in done.part.quarantined} == {
        1: ("r1", "crashed the encoder twice"),
        17: ("r17", "encoder"),
        130: ("r130", "not finite"),
        299: ("r299", "out of memory"),
    }
    assert len(stored(launch)) == 296


def test_a_row_that_kills_the_process_is_in_the_last_word_of_the_rank(tmp_path: Path, faulty_model: Path) -> None:
    texts = [*["it is"] * 30, "crash"]
    with launch_of(tmp_path, faulty_model, pieces=cut(tmp_path, texts, 31, suspects=(30,))) as launch:
        assert launch.wait() != 0
    assert launch.said(Heartbeat)[-1].rows == (30,)
    assert not launch.said(Done)


def test_auto_precision_is_settled_once_for_all_ranks(tmp_path: Path, tiny_model: Path) -> None:
    with launch_of(tmp_path, tiny_model, ranks=2, precision="auto", sample=tuple(words(24))) as launch:
        assert launch.wait() == 0
    one, other = (hello.facts for hello in launch.said(Hello))
    assert one == other
    assert one.note.startswith(one.precision)
    if one.precision == "bfloat16":
        assert one.lowest_cosine is not None
        assert one.lowest_cosine >= 0.9995


def test_a_model_that_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "no such type"}')
    with launch_of(tmp_path, tmp_path / "model", ranks=2) as launch:
        assert launch.wait() != 0
    faults = launch.said(Fault)
    assert faults
    assert all(fault.key == "" and fault.leaf == "bad input" and "cannot be loaded" in fault.text for fault in faults)
    assert "tasks/worker" not in launch.log  # no traceback of the rank's; torchrun adds its own


def test_a_rank_leaves_when_the_coordinator_hangs_up(tmp_path: Path, tiny_model: Path) -> None:
    def hang_up(message: Heard) -> None:
        if isinstance(message, Heartbeat):
            launch.hang_up()

    launch = launch_of(tmp_path, tiny_model, pieces=cut(tmp_path, words(2000), 1000), on_message=hang_up)
    with launch:
        launch.wait(60)
    assert not launch.said(Done)


def test_sigterm_lets_a_rank_finish_the_piece_in_hand(tmp_path: Path) -> None:
    held = tmp_path / "held"

    def terminate(message: Heard) -> None:
        if isinstance(message, Heartbeat) and message.done == 0 and held.exists():  # a piece is in hand, and cannot end before the signal
            os.kill(launch.said(Hello)[0].pid, signal.SIGTERM)
            held.unlink()

    model = make_held_model(tmp_path / "model", held, rows=10)
    launch = launch_of(tmp_path, model, pieces=cut(tmp_path, words(200), 100), on_message=terminate)
    with launch:
        launch.wait(60)
    assert not held.exists()
    assert [done.part.first for done in launch.said(Done)] == [0]
    assert len(stored(launch)) == 100


def test_a_rank_dies_with_its_parent(tmp_path: Path, faulty_model: Path) -> None:
    """kill -9 of the agent, while a rank is deep in a call that never returns."""

    def kill(message: Heard) -> None:
        if isinstance(message, Heartbeat):
            launch.process.kill()

    launch = launch_of(tmp_path, faulty_model, pieces=cut(tmp_path, ["hang"], 1), on_message=kill)
    with launch:
        launch.wait(60)
        rank = launch.said(Hello)[0].pid
        psutil.wait_procs([psutil.Process(rank)] if psutil.pid_exists(rank) else [], timeout=10)
        assert not psutil.pid_exists(rank) or psutil.Process(rank).status() == psutil.STATUS_ZOMBIE


def test_pictures_become_parts_and_bad_ones_are_set_aside(tmp_path: Path, tiny_clip: Clip) -> None:
    images = [saved(scene(n), "JPEG") for n in range(20)]
    images[4] = images[4][:500]
    path = write_rows(tmp_path / "rows.arrow", 0, {"image": images, "image_uri": [None] * 20}, "image")
    work = Piece(shard="s1", first=0, stop=20, rows=str(path), key="c/part-0-20.parquet", suspects=(3,))
    launch = Launch(
        scratch=tmp_path,
        encoder=OpenClipEncoder(architecture=tiny_clip.architecture),
        model_path="",
        modality="image",
        pieces=deque([work]),
        compute=Compute(device="cpu", num_workers=2, batch_rows=4),
    )
    with launch:
        assert launch.wait() == 0
    [done] = launch.said(Done)
    assert [(q.row, q.reason.split(":")[0]) for q in done.part.quarantined] == [(4, "undecodable image")]
    assert len(stored(launch)) == 19
    assert launch.said(Heartbeat)[0].rows == (3,)
    assert set(launch.said(Heartbeat)[1].rows) == {*range(20)} - {3}  # helpers may be at any of the next four batches
