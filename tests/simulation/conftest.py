"""Cohorts that several test files look at, and must not write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.simulation.cohort import Cohort, simulate_cohort
from qspace_nd.simulation.head import standard_table

TABLE = standard_table(unweighted=1, directions=6)
SMALL = {"voxel_size": 8.0, "table": TABLE}


@pytest.fixture(scope="package")
def bids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """Two controls and a patient in a BIDS dataset."""
    folder = tmp_path_factory.mktemp("bids")
    return folder, simulate_cohort(folder, controls=2, patients=1, **SMALL)


@pytest.fixture(scope="package")
def flat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """The same three in plain files."""
    folder = tmp_path_factory.mktemp("flat")
    return folder, simulate_cohort(folder, controls=2, patients=1, layout="flat", **SMALL)


def files_in(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
