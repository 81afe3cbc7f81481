from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads lie where they are: simulated ones nearly do, and registration has tests of its own."""
    from qspace_nd.registration.places import Registration
    from qspace_nd.registration.template import Template
    from qspace_nd.workflows import placing

    def first(images, progress=None, each=None):  # type: ignore[no-untyped-def]
        return Template(images[0].values, images[0].mask, images[0].affine)

    monkeypatch.setattr(placing, "build_template", first)
    monkeypatch.setattr(placing, "register", lambda *_, **__: Registration(np.eye(4), None, 0.1))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty files: they take most of the time, and have tests of their own."""
    from qspace_nd.workflows import evaluate, map_one

    def draw(path: Path, *_: object) -> None:
        path.touch()

    monkeypatch.setattr(evaluate, "FIGURES", dict.fromkeys(evaluate.FIGURES, draw))
    for module in (evaluate, map_one):
        monkeypatch.setattr(module, "write_mosaic", draw)
