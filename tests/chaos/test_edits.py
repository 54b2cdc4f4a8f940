"""A short seeded set of `python -m tests.chaos.edits`: whatever comes and goes, in whichever mode, the collection is what it has to be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.builders.inprocess import RunFlow
from tests.builders.models import Clip
from tests.chaos.edited import Corpus, Pictures, Tables
from tests.chaos.edits import Model, check, play
from tests.chaos.raw import opened

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.mark.parametrize("mode", ["append", "mirror"])
def test_a_picture_that_is_added_and_taken_away_again_costs_no_row(
    run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sorts first, so that it moves the bounds of every shard; in append, its own row stays."""
    edits = iter([["add"], ["remove"]])

    def edit(corpus: Corpus) -> list[str]:
        done = next(edits)
        if done == ["add"]:
            corpus.files["0000.png"] = corpus.new_rows("0000.png")
            corpus.write("0000.png")
        else:
            del corpus.files["0000.png"]
            (corpus.source / "0000.png").unlink()
        return done

    monkeypatch.setattr(Corpus, "edit", edit)
    corpus = Pictures(tmp_path, random.Random(1), clip=tiny_clip)
    assert len(list(play(run_flow, corpus, rounds=2, seed=1, mode=mode))) == 3


@pytest.mark.parametrize("seed", [1, 2])
def test_pictures_come_and_go_in_both_modes(run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip, seed: int) -> None:
    corpus = Pictures(tmp_path, random.Random(seed), clip=tiny_clip)
    assert len(list(play(run_flow, corpus, rounds=5, seed=seed))) == 6


def test_files_come_and_go_in_both_modes(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    corpus = Tables(tmp_path, random.Random(3), model=tiny_model)
    assert len(list(play(run_flow, corpus, rounds=5, seed=3))) == 6


def test_a_row_that_the_model_does_not_know_is_found(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """A machine that finds nothing must be able to find something."""
    corpus, model = Tables(tmp_path, random.Random(4), model=tiny_model), Model()
    corpus.begin()
    model.after(corpus, "append")
    job = corpus.job()
    run_flow(job)
    check(job, corpus, model, "before")
    with opened(job) as raw:
        first, second, *_ = raw.rows()
        raw.delete([first["id"]])
        raw.upsert([{**first, "id": "strange"}, {**second, "text": first["text"]}])
    with pytest.raises(AssertionError, match=f"lost .*{first['id']}.*strange.*wrong .*{second['id']}"):
        check(job, corpus, model, "after")
