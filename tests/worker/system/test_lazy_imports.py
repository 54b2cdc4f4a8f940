"""What a rank puts off importing still works, and is nobody else's business."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.worker.system.lazy_imports import deferred, import_quickly


@pytest.fixture
def costly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package, and a library that imports a function of it."""
    (tmp_path / "costly").mkdir()
    (tmp_path / "costly" / "__init__.py").write_text("")
    (tmp_path / "costly" / "metrics.py").write_text("def double(n):\n    return 2 * n\n")
    (tmp_path / "library.py").write_text("from costly.metrics import double\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("costly", "costly.metrics", "library"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("costly")
def test_a_module_that_is_put_off_is_imported_by_the_first_call() -> None:
    with deferred("costly", "costly.metrics"):
        library = importlib.import_module("library")
    assert "costly" not in sys.modules
    assert library.double(21) == 42
    assert "costly.metrics" in sys.modules


@pytest.mark.usefixtures("costly")
def test_a_module_that_is_there_is_not_replaced() -> None:
    real = importlib.import_module("costly.metrics")
    with deferred("costly", "costly.metrics"):
        assert sys.modules["costly.metrics"] is real
    assert sys.modules["costly.metrics"] is real


def test_a_library_that_needs_more_than_functions_gets_the_real_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import sklearn\nassert sklearn.__version__\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_quickly("needs_more").sklearn.__version__


def test_loading_a_model_takes_no_scikit_learn_and_no_optimisation(tiny_model: Path) -> None:
    code = f"""
import sys
from tasks.domain.job.encoder import SentenceTransformersEncoder as Settings
from tasks.worker.encoders.registry import open_encoder
encoder = open_encoder(Settings(model={str(tiny_model)!r}), model_path={str(tiny_model)!r}, precision="float32")
assert encoder.encode(["the one"]).shape == (1, 32)
print(sorted({{*sys.modules}} & {{"sklearn", "pandas", "scipy.optimize"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
