from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tasks.worker.optimize import precision
from tasks.worker.optimize.precision import Decision, decide, expected_precision, native_bfloat16, sample_cosines
from tests.builders.worker.fakes import FakeEncoder, FakeWork

TEXTS = ["a", "bb", "ccc", "dddd"] * 10


def cpu(folder: Path, flags: str) -> Path:
    info = folder / "cpuinfo"
    info.write_text(f"processor\t: 0\nvendor_id\t: Some\nflags\t\t: fpu {flags}\n")
    return info


def on_hardware(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda _device: native)


def never() -> npt.NDArray[np.float64]:
    raise AssertionError("nothing is to be compared")


@pytest.mark.parametrize(("flags", "native"), [("avx2 avx512f", False), ("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True)])
def test_a_cpu_that_multiplies_bfloat16_says_so_in_its_flags(tmp_path: Path, flags: str, native: bool) -> None:
    assert native_bfloat16("cpu", cpu(tmp_path, flags)) is native


def test_a_machine_that_says_nothing_gets_float32(tmp_path: Path) -> None:
    assert not native_bfloat16("cpu", tmp_path / "absent")


def test_what_the_job_says_is_taken_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hardware(monkeypatch, native=False)
    assert decide("float16", "cpu", never).precision == "float16"
    assert expected_precision("bfloat16", "cpu") == "bfloat16"


def test_auto_is_float32_where_bfloat16_is_not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hardware(monkeypatch, native=False)
    assert decide("auto", "cpu", never).precision == "float32"
    assert expected_precision("auto", "cpu") == "float32"


def test_auto_is_bfloat16_where_it_is_native_and_near(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hardware(monkeypatch, native=True)
    decision = decide("auto", "cpu", lambda: np.array([0.9996, 1.0]))
    assert decision == Decision(
        precision="bfloat16",
        lowest_cosine=0.9996,
        mean_cosine=0.9998,
        note="bfloat16: bfloat16's lowest cosine to float32 is 0.99960 over 2 rows",
    )


def test_one_row_that_moves_too_far_is_enough_for_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hardware(monkeypatch, native=True)
    decision = decide("auto", "cpu", lambda: np.array([1.0, 0.9994, 1.0]))
    assert decision.precision == "float32"
    assert "below 0.9995" in decision.note
    assert decision.lowest_cosine == 0.9994


def test_without_a_sample_nothing_is_risked(monkeypatch: pytest.MonkeyPatch) -> None:
    on_hardware(monkeypatch, native=True)
    assert decide("auto", "cpu", lambda: np.zeros(0)).precision == "float32"


def compare(texts: list[str], error: float) -> npt.NDArray[np.float64]:
    def sample(encoder: FakeEncoder) -> FakeWork:
        return encoder.prepare(pa.table({"text": texts}))

    return sample_cosines(FakeEncoder(), FakeEncoder("bfloat16", error), sample)


def test_every_sampled_row_is_compared() -> None:
    assert compare(TEXTS, 0.0).tolist() == pytest.approx([1.0] * 40)
    assert compare(TEXTS, 0.2).min() < 0.9995


def test_a_vector_that_is_lost_in_bfloat16_counts_as_far_away() -> None:
    assert compare(TEXTS, float("nan")).max() == 0


def test_rows_that_no_precision_can_embed_are_no_evidence() -> None:
    assert len(compare([*TEXTS, "unreadable"], 0.0)) == 40
    assert len(compare([*TEXTS[:8], "boom"], 0.0)) == 8
