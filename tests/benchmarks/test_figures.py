"""The benchmarks' own arithmetic; what they measure is asserted nowhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.ceiling import Shape, operations
from tests.benchmarks.ceiling import kind_of as kind_of_operation
from tests.benchmarks.encode import read
from tests.benchmarks.figures import Series, compare, ratio, turns
from tests.benchmarks.kitestring import Ran
from tests.benchmarks.output import keep, table
from tests.benchmarks.scaling import amdahl, gustafson
from tests.benchmarks.sizes import DONE, EACH, EACH_CPU, flatness
from tests.benchmarks.startup import steps
from tests.benchmarks.vectors import STOCK, cosines
from tests.benchmarks.watch import CommandFailed, Peaks, Watched, kind_of, watch


def test_every_round_begins_with_another_contender() -> None:
    assert list(turns(["a", "b", "c"], 3)) == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


def test_contenders_are_compared_by_their_medians() -> None:
    slow, fast = iter([10.0, 90.0, 12.0]), iter([5.0, 6.0, 7.0])
    results = compare({"slow": lambda: {"s": next(slow)}, "fast": lambda: {"s": next(fast)}}, 3, told=lambda _: None)
    assert results["slow"]["s"].values == (10.0, 90.0, 12.0)
    assert ratio(results, "slow", "fast", "s") == 2.0


def test_the_spread_is_a_share_of_the_median() -> None:
    assert Series((9.0, 10.0, 12.0)).spread == pytest.approx(0.3)
    assert str(Series((9.0, 10.0, 12.0))) == "10.0 ±15%"
    assert str(Series((1234.5,))) == "1,234"


def test_ratios_are_taken_within_each_round() -> None:
    told = {
        "rows": 100,
        "seconds": {STOCK: [10.0, 20.0], "ranks": [5.0, 10.0]},
        "cpu": {STOCK: [8.0, 8.0], "ranks": [4.0, 2.0]},
        "cosines": {"ranks": (0.5, 1.0)},
    }
    found = read(json.loads(json.dumps(told)))
    assert found["ranks"]["ratio"].values == (2.0, 2.0)
    assert found["ranks"]["by CPU s"].values == (2.0, 4.0)
    assert found["ranks"]["rows/s"].values == (20.0, 10.0)


def test_cosines_are_of_rows() -> None:
    assert cosines(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [1.0, 0.0]])) == (0.0, 0.5)


def test_the_steps_of_a_run_add_up_to_it() -> None:
    marks = {"command line read": 1.0, "Prefect imported": 3.0, "server up": 3.5, "rank ready": 10.0, "ended": 14.0}
    found = steps(Ran(marks=marks, watched=Watched(seconds=15.0, cpu_seconds=20.0, peaks=Peaks())))
    whole = found.pop("whole")
    assert found.pop("CPU s") == 20.0
    assert found["ranks"] == 6.5
    assert sum(found.values()) == whole == 15.0


def test_the_peak_of_a_sum_is_no_sum_of_peaks() -> None:
    peaks = Peaks()
    peaks.take({"flow": 100.0, "rank 0": 10.0})
    peaks.take({"flow": 10.0, "rank 0": 100.0})
    assert (peaks.by_kind, peaks.whole) == ({"flow": 100.0, "rank 0": 100.0}, 110.0)


@pytest.mark.parametrize(
    ("command", "name", "kind"),
    [
        (["python", "-m", "tasks.adapters.processes.process_guard", "--", "python", "-m", "tasks.worker.agent"], "python", "guard"),
        (["python", "-m", "tasks.worker.agent", "--standalone"], "python", "agent"),
        (["python", "-m", "tasks.worker.agent", "--standalone"], "ks-rank-1", "rank 1"),
        (["python", "-m", "torch.distributed.run", "-m", "tests.benchmarks.ranks_alone"], "python", "agent"),
        (["python", "-u", "-m", "tests.benchmarks.ranks_alone"], "python", "rank 2"),
        (["python", "-m", "uvicorn", "--factory"], "python", "Prefect server"),
        (["sleep", "1"], "sleep", "other"),
    ],
)
def test_processes_are_known_by_their_commands(command: list[str], name: str, kind: str) -> None:
    assert kind_of(command, name, {"RANK": "2"}, is_root=False) == kind


def test_the_memory_of_a_command_is_seen(tmp_path: Path) -> None:
    holds = "import time; held = bytearray(200 << 20); time.sleep(1)"
    watched = watch([sys.executable, "-c", holds], cwd=tmp_path, env=os.environ, every=0.05)
    assert 200 < watched.peaks.whole < 300
    assert 0 < watched.cpu_seconds < 10


def test_a_contender_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3:\nthe reason"):
        watch([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], cwd=tmp_path, env=os.environ)


def test_results_are_kept_as_table_numbers_and_chart(tmp_path: Path) -> None:
    results = {"one": {"s": Series((1.0, 2.0, 3.0))}, "two": {"s": Series((4.0,)), "MiB": Series((5.0,))}}
    outcome = Outcome(title="Two", results=results, conclusions=["one is faster"], drawn="s")
    keep("two", outcome, tmp_path)
    assert json.loads((tmp_path / "two.json").read_text())["results"]["one"] == {"s": [1.0, 2.0, 3.0]}
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    assert "| one | 2.00 ±50% |" in table(outcome)


def test_a_table_of_many_figures_has_a_line_for_each() -> None:
    one = {f"step {number}": Series((float(number),)) for number in range(12)}
    assert "| step 11 | 11.0 |" in table(Outcome(title="Steps", results={"one": one}))


def test_what_cannot_be_shared_is_found_from_speed_ups() -> None:
    """Made from the laws themselves, with a tenth that is serial."""
    assert amdahl({n: 1 / (0.1 + 0.9 / n) for n in (2, 4, 8)}) == pytest.approx(0.1)
    assert gustafson({n: n - 0.1 * (n - 1) for n in (2, 4, 8)}) == pytest.approx(0.1)
    assert amdahl({2: 2.0}) == gustafson({2: 2.0}) == 0


def test_sizes_are_held_against_the_one_before() -> None:
    """Two seconds of each run, and a tenth for each 1,000 rows."""

    def cost(rows: int) -> dict[str, Series]:
        seconds = 2 + rows / 10_000
        return {DONE: Series((seconds,)), **{name: Series((seconds / rows,)) for name in (EACH, EACH_CPU)}, "peak MiB": Series((rows,))}

    (said,) = flatness({"2,000 rows": cost(2_000), "4,000 rows": cost(4_000)}, [2_000, 4_000])
    assert said.startswith(f"4,000 rows against 2,000: {EACH} -45.5%, {EACH_CPU} -45.5%, peak MiB +100.0%")
    assert said.endswith("a further 1,000 rows took 0.100 s")


def test_a_layers_products_are_counted() -> None:
    """Two rows of three tokens: query, key, value and output of 4 x 4, up and down of 4 x 8, scores and their use."""
    assert operations(Shape(layers=1, hidden=4, between=8, heads=2), 2, 3) == 2 * 3 * (2 * (4 * 16 + 2 * 32) + 2 * 2 * 3 * 4)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::native_layer_norm", "normalising"),
        ("aten::copy_", "copies and shapes"),
        ("aten::something_new", "other operations"),
    ],
)
def test_operations_are_told_apart_by_name(operation: str, kind: str) -> None:
    assert kind_of_operation(operation) == kind


def test_quick_takes_few_rows_unless_rows_are_named() -> None:
    assert Sizes().rows_or(1_000, quick=10) == 1_000
    assert Sizes(quick=True).rows_or(1_000, quick=10) == 10
    assert Sizes(quick=True, rows=7).rows_or(1_000, quick=10) == 7
