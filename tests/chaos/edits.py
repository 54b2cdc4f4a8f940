"""Random edits of a source, in append and in mirror and switching between them, with a model of what the collection has to hold.

Two kinds of source: a folder of pictures, whose shards span ten files each, so that one that comes or goes moves the bounds of all
that follow; and Parquet files, between which rows move. After each round the run has ended well and proved, and the collection holds
exactly what the model says: in a mirror the source, in append the source and the rows of files that have left it. While a round is
under way, after each of its writes, nothing that stands before it and has to stand after it is missing.

    python -m tests.chaos.edits --rounds 20 --seed 1
    python -m tests.chaos.edits --kind pictures --uri http://...
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders.inprocess import RunFlow, flows_in_process
from tests.builders.models import make_tiny_clip, make_tiny_model
from tests.chaos.edited import Corpus, Job, Pictures, Tables
from tests.chaos.mirror import SERVER_GAP, watched
from tests.chaos.raw import opened
from tests.servers.prefect import prefect_process


@dataclass
class Model:
    """What the collection has to hold: a row's content, and the file that it came from."""

    held: dict[str, tuple[int, str]] = field(default_factory=dict)

    def after(self, corpus: Corpus, mode: str) -> None:
        """A run has ended: the source, and in append what came from files that are there no more."""
        source = {key: (content, name) for name, rows in corpus.files.items() for key, content in rows.items()}
        stay = {key: held for key, held in self.held.items() if held[1] not in corpus.files} if mode == "append" else {}
        self.held = stay | source


def play(
    run_flow: RunFlow,
    corpus: Corpus,
    *,
    rounds: int,
    seed: int,
    uri: str | None = None,
    mode: str | None = None,
    collection: str | None = None,
) -> Iterator[str]:
    """Rounds of edits, each checked; a line for each. `mode`: always that one, otherwise it is drawn anew for each round."""
    corpus.begin()
    model, drawn = Model(), random.Random(f"modes {seed}")
    where = {"target__uri": uri} if uri else {}
    for number in range(rounds + 1):
        chosen = mode or drawn.choice(("append", "mirror"))
        edits = corpus.edit() if number else ["the first run"]
        before = dict(model.held)
        model.after(corpus, chosen)
        job = corpus.job(target__mode=chosen, target__allow_shrink=True, target__collection=collection or f"edits_{seed}", **where)
        began = time.monotonic()
        with watched(before.keys() & model.held.keys(), SERVER_GAP if uri else 0.0):
            result = run_flow(job)
        said = f"round {number}, {chosen}: {', '.join(edits) or 'nothing'}"
        assert result["verified"] is True, said
        check(job, corpus, model, said)
        yield f"{said}; {len(model.held)} in the collection, {time.monotonic() - began:.1f} s"


def check(job: Job, corpus: Corpus, model: Model, said: str) -> None:
    """The collection holds what the model says, each row once."""
    with opened(job) as raw:
        rows = raw.rows()
        total = raw.count()
    found = {row["id"]: row for row in rows}
    lost, strange = sorted(model.held.keys() - found.keys()), sorted(found.keys() - model.held.keys())
    wrong = [f"{key}: {why}" for key, row in found.items() if key in model.held and (why := corpus.wrong(row, model.held[key][0]))]
    assert len(rows) == len(found) == total, f"{said}: {total} rows of {len(found)} keys"
    assert lost + strange + wrong == [], f"{said}: lost {lost[:5]}, does not belong there {strange[:5]}, wrong {wrong[:5]}"


def main() -> int:
    """Many rounds, on Milvus Lite or on a server."""
    options = _options()
    logging.disable(logging.WARNING)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="edits-") as place, prefect_process() as server, flows_in_process(server) as run_flow:
        folder = Path(place)
        (folder / "clip").mkdir()
        chosen: dict[str, Corpus] = {
            "pictures": Pictures(folder / "a", random.Random(options.seed), clip=make_tiny_clip(folder / "clip")),
            "tables": Tables(folder / "b", random.Random(options.seed), model=make_tiny_model(folder / "model")),
        }
        for kind, corpus in chosen.items():
            if options.kind not in (None, kind):
                continue
            try:
                for line in play(run_flow, corpus, rounds=options.rounds, seed=options.seed, uri=options.uri, mode=options.mode):
                    print(f"{kind} {line}", flush=True)
            except Exception as error:  # noqa: BLE001 - the other kind goes on
                failed = 1
                print(f"FAILED: --kind {kind} --seed {options.seed}: {error}", flush=True)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.edits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=("pictures", "tables"), help="left out, both")
    parser.add_argument("--mode", choices=("append", "mirror"), help="left out, drawn for each round")
    parser.add_argument("--uri", help="a Milvus server; left out, a Milvus Lite file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
