"""The examples for clusters, run as they stand: what their jobs make is what one run makes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, call_here, tree_of

EXAMPLES = Path(__file__).parent.parent / "examples"

SBATCH = """#!/bin/bash
# Stands in for Slurm's: does the jobs of an array one after another, here.
array=${1#--array=1-}
shift
for job in $(seq 1 "$array"); do
    SLURM_ARRAY_TASK_ID=$job SLURM_ARRAY_TASK_MAX=$array SLURM_CPUS_PER_TASK=1 bash "$@" || exit
done
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort as BIDS, a model of its controls and, in `maps/`, what one run makes of patients."""
    folder = tmp_path_factory.mktemp("examples")
    for line in (
        "simulate cohort --controls 2 --patients 2 --voxel-size 8",
        "fit --bids cohort --where group=control --epochs 1",
        "map --bids cohort --where group=patient -o maps",
    ):
        assert call_here(f"{line} -q", folder) == 0
    return folder


def test_the_jobs_of_a_slurm_array_make_what_one_run_does(study: Path, tmp_path: Path) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    path = os.pathsep.join([str(PROGRAM.parent), str(tmp_path), os.environ["PATH"]])
    line = ["sbatch", "--array=1-2", EXAMPLES / "map.sbatch", "cohort", "array"]
    done = subprocess.run(
        [*line, "--where", "group=patient", "-q"],
        cwd=study,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert tree_of(study / "array") == tree_of(study / "maps")


def test_snakemakes_jobs_make_what_one_run_does(study: Path) -> None:
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("Snakemake is not installed: pip install snakemake")
    named = ["dataset=cohort", "maps=rule", "parts=2"]
    done = subprocess.run(
        [snakemake, "-s", EXAMPLES / "Snakefile", "--cores", "2", "--config", *named],
        cwd=study,
        env={**os.environ, "PATH": os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(study / "rule/.parts")
    assert tree_of(study / "rule") == tree_of(study / "maps")
