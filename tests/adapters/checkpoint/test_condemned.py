"""A sweep beside a run: in any order of their calls, and wherever either is killed, no loaded shard loses a part."""

from __future__ import annotations

import random
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.adapters.checkpoint import checkpoint as checkpoint_module
from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.condemned import condemn, condemned, condemned_by
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.commands.unreferenced_objects import find_unreferenced, remove_unreferenced, survey_corpus
from tasks.domain.errors import Damaged
from tasks.domain.ports import StoredObject
from tasks.domain.shards.garbage import PROTECTED_SECONDS
from tests.builders.checkpoints import IDENTITY, SHARD, TARGET, loaded, put_part, seal_of

SCHEDULES = 400
SPANS = ((0, 3), (3, 6), (6, 9))


class Killed(BaseException):
    """kill -9: from here on this one does nothing any more."""


class Turns:
    """Whose call is next. The call of one who has ended is left out, and after the last turn everyone may."""

    def __init__(self, order: Iterable[str]) -> None:
        self._order, self._over, self._changed = deque(order), set[str](), threading.Condition()

    @contextmanager
    def of(self, who: str) -> Iterator[None]:
        with self._changed:
            while self._order and self._order[0] != who:
                if self._order[0] in self._over:
                    self._order.popleft()
                else:
                    self._changed.wait()
            if self._order:
                self._order.popleft()
            try:
                yield
            finally:
                self._changed.notify_all()

    def end(self, who: str) -> None:
        with self._changed:
            self._over.add(who)
            self._changed.notify_all()


class InTurn(MemoryStore):
    """A store of which each call waits for its turn. `calls`: after so many the caller is killed."""

    def __init__(self, name: str, who: str, turns: Turns, calls: int) -> None:
        super().__init__(name)
        self._who, self._turns, self._calls = who, turns, calls

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._turns.of(self._who):
            self._calls -= 1
            if self._calls < 0:
                raise Killed
            yield

    def read(self, key: str) -> bytes | None:
        with self._turn():
            return super().read(key)

    def write(self, key: str, data: bytes | Path) -> None:
        with self._turn():
            super().write(key, data)

    def commit(self, key: str, data: bytes) -> bool:
        with self._turn():
            return super().commit(key, data)

    def delete(self, key: str) -> None:
        with self._turn():
            super().delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        with self._turn():
            for key in keys:
                super().delete(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with self._turn():
            found = [*super().list(prefix)]
        return iter(found)


def run(checkpoint: Checkpoint, folder: Path, attempt: str) -> None:
    """What a run does with a shard, call by call, as an engine and `tasks.stages.load` do it."""
    for again in range(3):
        seal = checkpoint.effective_seal(SHARD)
        if seal is None:
            adopted = checkpoint.adoptable(SHARD)
            covered = {(part.first, part.stop) for part in adopted}
            made = [put_part(checkpoint, folder, *span, attempt=f"{attempt}-{again}") for span in SPANS if span not in covered]
            seal = checkpoint.seal(seal_of(*sorted([*adopted, *made], key=lambda part: part.first), run=attempt))
        try:
            checkpoint.refuse_condemned(seal)
            for part in seal.parts:
                checkpoint.verified_part(part)
        except Damaged:
            checkpoint.withdraw(seal, TARGET)
        else:
            checkpoint.record_load(TARGET, loaded(seal))
            return
    raise AssertionError("a run that withdrew a seal met the same sweep again and again")


def sweep(store: MemoryStore) -> None:
    seen = survey_corpus(store, "pydocs", lambda *_: None)
    remove_unreferenced(seen, find_unreferenced(seen, lambda *_: None), lambda *_: None)


def age(store: MemoryStore, days: float = 2) -> None:
    held = store._shelf.objects
    for key, (data, modified) in held.items():
        held[key] = (data, modified - days * PROTECTED_SECONDS)


def side_by_side(name: str, folder: Path, rng: random.Random) -> None:
    """A sweep and a run in an order that is drawn, each perhaps killed after a number of calls that is drawn."""
    order = ["gc"] * rng.randint(0, 8) + rng.sample(["gc"] * 12 + ["run"] * 24, 36)
    turns = Turns(order)
    gc, ours = (InTurn(name, who, turns, rng.choice((999, 999, rng.randint(0, 20)))) for who in ("gc", "run"))

    def thread(who: str, call: object, *arguments: object) -> threading.Thread:
        def until_killed() -> None:
            try:
                call(*arguments)  # type: ignore[operator]
            except Killed:
                pass
            finally:
                turns.end(who)

        begun = threading.Thread(target=until_killed)
        begun.start()
        return begun

    both = [thread("gc", sweep, gc), thread("run", run, Checkpoint(ours, "pydocs", IDENTITY.fingerprint), folder, "beside")]
    for one in both:
        one.join()


def losses(checkpoint: Checkpoint) -> list[str]:
    """Parts of a loaded shard that are gone or wrong."""
    seal = checkpoint.effective_seal(SHARD)
    entries = list(checkpoint.loads(TARGET))
    return [part.key for part in seal.parts if checkpoint._is_damaged(part)] if entries and seal else []


def trial(folder: Path, seed: int) -> list[str]:
    """What is lost after a sweep beside a run, and after the next run and the sweep of a day later."""
    name, rng = f"beside-{secrets.token_hex(8)}", random.Random(seed)
    quiet = Checkpoint(MemoryStore(name), "pydocs", IDENTITY.fingerprint)
    for span in SPANS[:2]:
        put_part(quiet, folder, *span, attempt="killed")
    age(quiet.store)  # type: ignore[arg-type]
    side_by_side(name, folder, rng)
    found = losses(quiet)
    if not list(quiet.loads(TARGET)):
        run(quiet, folder, "next")
    found += losses(quiet)
    age(quiet.store)  # type: ignore[arg-type]
    sweep(MemoryStore(name))
    found += losses(quiet)
    seal = quiet.read_seal(SHARD)
    named = {part.key for part in seal.parts} if seal else set()
    found += [f"garbage stays: {stored.key}" for stored in quiet.parts_of(SHARD) if stored.key not in named]
    marks = list(quiet.store.list(quiet.layout.marks))
    found += [f"a mark without need: {mark.key}" for mark in marks if named.isdisjoint(condemned_by(quiet.store, mark.key))]
    return found


def test_no_order_and_no_kill_loses_a_part_of_a_loaded_shard(tmp_path: Path) -> None:
    assert {seed: found for seed in range(SCHEDULES) if (found := trial(tmp_path, seed))} == {}


def test_the_same_orders_lose_parts_where_a_run_does_not_look_at_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can find something."""
    monkeypatch.setattr(checkpoint_module, "condemned", lambda *_: frozenset())
    assert any("killed/" in "".join(trial(tmp_path, seed)) for seed in range(SCHEDULES))


def test_condemned_parts_are_not_adopted_and_a_seal_that_names_one_is_withdrawn(tmp_path: Path) -> None:
    checkpoint = Checkpoint(MemoryStore(secrets.token_hex(8)), "pydocs", IDENTITY.fingerprint)
    doomed, other = (put_part(checkpoint, tmp_path, *span) for span in SPANS[:2])
    seal = checkpoint.seal(seal_of(doomed, other))
    checkpoint.refuse_condemned(seal)
    mark = condemn(checkpoint.store, checkpoint.layout, [doomed.key])
    with pytest.raises(Damaged, match=doomed.key):
        checkpoint.refuse_condemned(seal)
    assert checkpoint.withdraw(seal, TARGET)
    assert [part.key for part in checkpoint.adoptable(SHARD)] == [other.key]
    checkpoint.store.delete(mark)
    assert condemned(checkpoint.store, checkpoint.layout) == frozenset()


def test_a_mark_that_cannot_be_read_condemns_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint(MemoryStore(secrets.token_hex(8)), "pydocs", IDENTITY.fingerprint)
    part = put_part(checkpoint, tmp_path, 0, 3)
    checkpoint.store.write(checkpoint.layout.mark("torn"), b'{"keys": [')
    assert checkpoint.adoptable(SHARD) == [part]
    age(checkpoint.store)  # type: ignore[arg-type]
    sweep(checkpoint.store)  # type: ignore[arg-type]
    assert not list(checkpoint.store.list(""))
