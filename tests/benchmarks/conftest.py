from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="package", autouse=True)
def importable() -> Iterator[None]:
    """Let the recipes be imported, as when one is run as a script."""
    before = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(BENCHMARKS / "real"), str(BENCHMARKS)]
    yield
    sys.path[:] = before[0]
    for name in set(sys.modules) - before[1]:
        if BENCHMARKS in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]
