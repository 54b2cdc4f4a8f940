"""The confusion table: states of a collection, right ones and spoiled ones, and what `verify` and `verify --full` say of each.

    python -m tests.chaos.confusion                     # Milvus Lite, and a Milvus 2.3.5 of its own
    python -m tests.chaos.confusion --only lite
    python -m tests.chaos.confusion --uri http://...    # another server

A right state must never be called bad, and `--full` must never call a spoiled one good. The plain proof draws 1,000 rows: what a
count, a total or the alias shows it has to find always, anything else as often as a row of those that are wrong is among the drawn.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from tasks.adapters.targets import verification
from tests.builders.inprocess import RunFlow, flows_in_process
from tests.builders.kitestring import Kitestring
from tests.chaos.corpus import make_slow_model
from tests.chaos.corruptions import BOTH, CUT, LARGE, NULLS, RETAINED, SHOWN, Corruption, Where
from tests.chaos.histories import ANYWHERE, ON_A_NEWER_SERVER, ON_A_SERVER, History, cut_texts, fresh, large, nulls, retained
from tests.chaos.raw import Row, copy_folder, opened
from tests.chaos.stage import Job, Stage

SAMPLE = 1_000
SETTLE_SECONDS = 4.0
REPEATS = 20  # plain proofs of a state that only a sample can see
CHANCE = 0.001  # that a proof which keeps its promise is called one that does not
PROVED, NOT_PROVED = 0, 4
COLUMNS = ("where", "history", "spoiled by", "rows", "rows only a sample sees", "verify finds it", "has to", "verify", "verify --full", "")


@dataclass(kw_only=True)
class Outcome:
    """One line of the table. `hidden`: rows that are wrong in a way that no count shows; None: nothing is wrong."""

    where: str
    history: str
    spoiled: str = ""
    rows: int = 0
    hidden: int | None = None
    plain: list[int] = field(default_factory=list)
    full: int | None = None
    error: str = ""

    @property
    def chance(self) -> float:
        """That a plain proof finds it: draws without putting back."""
        if self.hidden is None:
            return 0.0
        if self.hidden == SHOWN or self.rows <= SAMPLE:
            return 1.0
        return 1 - math.exp(_log_ways(self.rows - self.hidden, SAMPLE) - _log_ways(self.rows, SAMPLE))

    @property
    def found(self) -> int:
        return sum(code == NOT_PROVED for code in self.plain)

    @property
    def fault(self) -> str:
        """What the proofs got wrong; empty where they are right."""
        if self.error:
            return self.error
        if self.hidden is None:
            return "" if self.full == PROVED and set(self.plain) == {PROVED} else "a right collection is called bad"
        if self.full != NOT_PROVED:
            return "--full calls it good"
        odds = _at_most(self.found, len(self.plain), self.chance)
        return "" if odds > CHANCE else "verify calls it good" if self.chance == 1.0 else "verify finds it less often than it says"

    def line(self) -> str:
        plain = "/".join(map(str, sorted(set(self.plain))))
        promised = f"{self.chance:.0%}" if self.hidden is not None else ""
        found = f"{self.found} of {len(self.plain)}" if self.hidden is not None else ""
        hidden = "" if self.hidden is None else "none" if self.hidden == SHOWN else str(self.hidden)
        cells = (self.where, self.history, self.spoiled, self.rows, hidden, found, promised, plain, "" if self.full is None else self.full)
        return "| " + " | ".join(map(str, (*cells, self.fault))) + " |"


def _log_ways(rows: int, drawn: int) -> float:
    if rows < drawn:
        return -math.inf
    return math.lgamma(rows + 1) - math.lgamma(drawn + 1) - math.lgamma(rows - drawn + 1)


def _at_most(found: int, tries: int, chance: float) -> float:
    """The probability of so few, or fewer."""
    return sum(math.comb(tries, k) * chance**k * (1 - chance) ** (tries - k) for k in range(found + 1))


@dataclass(kw_only=True)
class Laboratory:
    """Plays histories, spoils what they leave, and asks for proofs. `servers`: URIs by their names in the table; lite has none."""

    folder: Path
    model: Path
    run_flow: RunFlow
    kitestring: Kitestring

    def judge_right(self, where: str, uri: str, history: History, due: int) -> Outcome:
        """A history, what it leaves (rows that are due), and what the proofs say of it."""
        outcome = Outcome(where=where, history=_name(history))
        try:
            job = history(self._stage(uri))
            with opened(job) as raw:
                outcome.rows = raw.count()
            outcome.error = "" if outcome.rows == due else f"{due} rows are due"
            outcome.plain, outcome.full = [self._verify(job)], self._verify(job, "--full")
        except Exception:  # noqa: BLE001 - the other cases go on, and this one stands in the table
            outcome.error = _told()
        return outcome

    def judge_spoiled(self, where: str, uri: str, history: History, corruptions: Iterable[Corruption]) -> Iterator[Outcome]:
        """One history, spoiled in each way in turn and mended in between."""
        base: Base | None = None
        for corruption in corruptions:
            if _kind(where) not in corruption.on:
                continue
            outcome = Outcome(where=where, history=_name(history), spoiled=corruption.name)
            try:
                base = base or Base(history(self._stage(uri)))
                self._judge(outcome, base, corruption)
            except Exception:  # noqa: BLE001 - as above
                outcome.error, base = _told(), None
            if corruption.apart:
                base = None
            yield outcome

    def _judge(self, outcome: Outcome, base: Base, corruption: Corruption) -> None:
        outcome.rows = len(base.rows)
        with opened(base.job) as raw:
            outcome.hidden = corruption.spoil(raw)
        for _ in range(1 if outcome.chance == 1.0 else REPEATS):
            base.restore_checkpoint()
            outcome.plain.append(self._verify(base.job))
        base.restore_checkpoint()
        outcome.full = self._verify(base.job, "--full")
        if not corruption.apart:
            base.restore()

    def _verify(self, job: Job, *how: str) -> int:
        path = self.kitestring.job(job)
        with patch.object(
            verification, "CountPatience", partial(verification.CountPatience, settle=SETTLE_SECONDS)
        ):  # what counts too many is given less time here
            ended = self.kitestring.here("verify", path, *how)
        if ended.code not in (PROVED, NOT_PROVED):
            raise RuntimeError(f"verify ended with {ended.code}: {ended.err}")
        return ended.code

    def _stage(self, uri: str) -> Stage:
        name = f"c{uuid.uuid4().hex[:8]}"
        return Stage(folder=self.folder / name, model=self.model, run_flow=self.run_flow, uri=uri, collection=name)


class Base:
    """A right state that can be had again and again."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lite = Path(job["target"]["uri"]) if job["target"]["uri"].endswith(".db") else None
        self._checkpoint = Path(job["checkpoint"])
        with opened(job) as raw:
            self.rows: list[Row] = raw.rows()
        for folder in self._folders():
            copy_folder(folder, _kept(folder))

    def _folders(self) -> list[Path]:
        return [self._checkpoint, *([self._lite] if self._lite else [])]

    def restore_checkpoint(self) -> None:
        """As no proof had been asked for."""
        copy_folder(_kept(self._checkpoint), self._checkpoint)

    def restore(self) -> None:
        """As it was."""
        for folder in self._folders():
            copy_folder(_kept(folder), folder)
        if not self._lite:
            with opened(self.job) as raw:
                raw.restore(self.rows)


def _kept(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-as-it-was")


def _name(history: History) -> str:
    return history.__name__.replace("_", " ")


def _kind(where: str) -> Where:
    return "lite" if where == "lite" else "server"


def _told() -> str:
    return "error: " + " ".join(traceback.format_exc().splitlines()[-1].split())[:200].replace("|", "/")


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    return "\n".join(["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *(o.line() for o in outcomes)])


def summary(outcomes: list[Outcome]) -> str:
    """The table in numbers."""
    right, spoiled = [o for o in outcomes if o.hidden is None], [o for o in outcomes if o.hidden is not None]
    bad = sum(o.fault == "a right collection is called bad" for o in right)
    good = sum(o.fault == "--full calls it good" for o in spoiled)
    rare = sum(o.fault.startswith("verify") for o in spoiled)
    return (
        f"{len(outcomes)} states: {len(right)} right, {bad} of them called bad; {len(spoiled)} spoiled, {good} of them called good by"
        f" --full; {rare} found by the plain proof less often than it says; {sum(bool(o.error) for o in outcomes)} that failed"
    )


def right(laboratory: Laboratory, where: str, uri: str) -> Iterator[Outcome]:
    """Every right state for one kind of target."""
    histories = ON_A_NEWER_SERVER if where == "newer" else ANYWHERE | (ON_A_SERVER if uri else {})
    for history, due in histories.items():
        yield laboratory.judge_right(where, uri, history, due)


def spoiled(laboratory: Laboratory, where: str, uri: str) -> Iterator[Outcome]:
    """Every spoiled one."""
    if where == "newer":
        return
    yield from laboratory.judge_spoiled(where, uri, fresh, BOTH)
    yield from laboratory.judge_spoiled(where, uri, large, [c for c in BOTH if c.name in LARGE])
    for history, corruptions in ((retained, RETAINED), (nulls, NULLS), (cut_texts, CUT)):
        yield from laboratory.judge_spoiled(where, uri, history, corruptions)


def main() -> int:
    options = _options()
    logging.disable(logging.WARNING)
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        laboratory, places = _opened(stack, options)
        asked = [ask for ask in (right, spoiled) if options.states in (None, ask.__name__)]
        for where, uri in places.items():
            for outcome in itertools.chain.from_iterable(ask(laboratory, where, uri) for ask in asked):
                outcomes.append(outcome)
                print(outcome.line(), flush=True)
    print(f"\n{table(outcomes)}\n\n{summary(outcomes)}")
    return 1 if any(outcome.fault for outcome in outcomes) else 0


def _opened(stack: ExitStack, options: argparse.Namespace) -> tuple[Laboratory, dict[str, str]]:
    """Servers as far as they are wanted."""
    from tests.servers.milvus import milvus_process  # noqa: PLC0415 - what is not wanted is not started
    from tests.servers.narrow_milvus import narrow_process  # noqa: PLC0415
    from tests.servers.prefect import prefect_process  # noqa: PLC0415

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="confusion-")))
    server = stack.enter_context(prefect_process())
    (folder / "here").mkdir()
    laboratory = Laboratory(
        folder=folder,
        model=make_slow_model(folder / "model", seconds=0),
        run_flow=stack.enter_context(flows_in_process(server)),
        kitestring=Kitestring(folder=folder / "here", env=server.env),
    )
    places = {"lite": ""} if options.only != "server" else {}
    if options.only != "lite":
        places["2.3.5"] = options.uri or stack.enter_context(milvus_process(lease=30)).uri
        places["newer"] = stack.enter_context(narrow_process(folder / "narrow"))
    return laboratory, places


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.confusion", description=__doc__)
    parser.add_argument("--uri", help="a Milvus server; left out, one is started")
    parser.add_argument("--only", choices=("lite", "server"))
    parser.add_argument("--states", choices=("right", "spoiled"), help="left out, both")
    return parser.parse_args()


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
