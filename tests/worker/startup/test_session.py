from __future__ import annotations

import pytest

from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.domain.encoding.tuning import Tuning, tuning_key
from tasks.domain.errors import Transient
from tasks.worker.startup.session import _save_tuning

KEY = tuning_key("corpus", "declared", "machine")
MEASURED = Tuning(backend="openvino", batch_tokens=512, note="measured")


def test_what_was_measured_is_kept_for_the_next_run() -> None:
    store = MemoryStore("kept")
    _save_tuning(None, store, KEY)
    assert read_document(store, KEY, Tuning) is None
    _save_tuning(MEASURED, store, KEY)
    assert read_document(store, KEY, Tuning) == MEASURED


def test_a_store_that_refuses_it_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Refusing(MemoryStore):
        def write(self, key: str, data: object) -> None:
            raise Transient("no answer")

    _save_tuning(MEASURED, Refusing("refusing"), KEY)
    assert "Cannot save the encoder's measurements: no answer" in capsys.readouterr().err
