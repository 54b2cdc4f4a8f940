"""Imports of a library that a rank does not need, deferred until first use.

sentence-transformers imports scikit-learn for one function of its training code, and with it SciPy's statistics
and pandas; transformers imports SciPy's optimisation for the losses of models that find objects. Nothing on the way from a
text to its vector calls them. The agent that ranks are forked from starts in 4.4 s of CPU time without, and in 5.4 s with them
(medians of four in turn; ranges 3.8 to 4.5 and 5.2 to 5.4); in seven pairs of start-up benchmarks it was 0.6 s in the median, from
-3.1 to 1.7 on a busy machine. To go as soon as it is under half a second.
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


class _Later(ModuleType):
    """Stands where a module would; any name in it is a function that imports the module when it is called."""

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
def put_off(*modules: str) -> Iterator[None]:
    """Within, `from MODULE import function` imports nothing; the function works all the same, when it is called.

    On leaving, the modules can be imported as ever. Modules that are imported already are left as they are.
    """
    stand_ins = {name: _Later(name) for name in modules if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_quickly(module: str) -> ModuleType:
    """Import one of this package's modules with deferred imports; with real ones, should a library need more of them than functions."""
    try:
        with importing(), put_off("sklearn", "sklearn.metrics", "scipy.optimize"):
            return importlib.import_module(module)
    except Exception:  # noqa: BLE001 - if it was not for that, the plain import says so
        return importlib.import_module(module)


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Within, importing the module fails."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(module)
        if before is not None:
            sys.modules[module] = before
