"""Imports of a library that a rank does not need, deferred until first use.

sentence-transformers imports scikit-learn for one function of its training code, and with it SciPy's statistics and pandas;
transformers imports SciPy's optimisation for the losses of object detection models. Encoding calls none of them. The agent that
forks the ranks starts in 4.4 s of CPU time without them and in 5.4 s with them (medians of four alternating runs; ranges 3.8 to 4.5
and 5.2 to 5.4); in seven pairs of start-up benchmarks on a busy machine the median saving was 0.6 s, from -3.1 to 1.7. Remove this
module once it saves less than half a second.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tasks.adapters.processes.gc_control import importing


class _DeferredModule(ModuleType):
    """Placeholder for a module: every attribute is a function that imports the module when called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **settings: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **settings)

        return call


@contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """Defer imports within the block: `from MODULE import function` imports nothing until the function is called.

    Restores normal imports on exit. Does not touch modules that are already imported.
    """
    stand_ins = {name: _DeferredModule(name) for name in modules if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_quickly(module: str) -> ModuleType:
    """Import a module of this package with deferred imports; with normal imports if a library needs more than functions."""
    try:
        with importing(), deferred("sklearn", "sklearn.metrics", "scipy.optimize"):
            return importlib.import_module(module)
    except Exception:  # noqa: BLE001 - an error with another cause is raised again by the normal import
        return importlib.import_module(module)


@contextmanager
def import_disabled(module: str) -> Iterator[None]:
    """Make imports of the module fail within the block."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(module)
        if before is not None:
            sys.modules[module] = before
