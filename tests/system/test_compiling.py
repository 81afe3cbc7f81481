"""Compiled functions, where they can be kept and where they cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.system.compiling import compiled, inlined

SOURCE = """
from qspace_nd.system.compiling import compiled
@compiled
def twice(x):
    return 2 * x
print(twice(21))
"""


@pytest.mark.parametrize("writable", [True, False])
def test_what_is_compiled_is_kept_where_that_is_possible(tmp_path: Path, writable: bool) -> None:
    """Or else a package and a home that may not be written to, as on some clusters."""
    module, home = tmp_path / "module.py", tmp_path / "home"
    module.write_text(SOURCE)
    if not writable:
        for folder in (tmp_path / "__pycache__", home):
            folder.touch()  # not even the superuser can write into a file
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, module], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert bool(list(tmp_path.rglob("*.nbi"))) == writable


@inlined
def _add_to(total: np.ndarray, value: float) -> float:
    total[0] += value
    return float(total[0])


@compiled
def _sum(values: np.ndarray) -> float:
    total = np.zeros(1)
    for value in values:
        _add_to(total, value)
    return float(total[0])


def test_what_is_inlined_does_as_it_says_and_keeps_arrays_alive() -> None:
    assert _sum(np.arange(10.0)) == 45
    held = np.ones(1)
    before = sys.getrefcount(held)
    assert [_add_to(held, 1.0) for _ in range(3)] == [2, 3, 4]
    assert sys.getrefcount(held) == before
