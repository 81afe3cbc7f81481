"""`qspace-nd simulate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import Run


def test_simulate_takes_the_gradients_that_are_named(folder: Path, call: Run) -> None:
    files = "--bval patient.bval --bvec patient.bvec"
    outcome = call(
        f"simulate other --layout flat --controls 1 --patients 0 --voxel-size 8 {files}", folder
    )
    assert outcome.status == 0, outcome.stderr
    for ending in ("bval", "bvec"):
        np.testing.assert_allclose(
            np.loadtxt(folder / f"other/healthy/control-01.{ending}"),
            np.loadtxt(folder / f"patient.{ending}"),
            atol=2e-6,
        )
    assert call("simulate another --bval patient.bval", folder).status == 2
