from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASES = 80  # five of each kind


def test_spoiled_inputs_are_refused_or_warned_of_and_break_nothing(tmp_path):
    options = ["--cases", f"{CASES}", "--no-section", "--failures", tmp_path]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "fuzz.py", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {CASES} |" in done.stdout


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import trials

    yield trials
    del sys.modules["trials"]


def test_outputs_that_are_no_whole_files_are_found(trials, tmp_path):
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)), tmp_path / "n.nii")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "a.json").write_text('{"a": NaN}')
    (tmp_path / "b.json").write_text('{"a": 1}')
    (tmp_path / ".b.json.1f").write_text("")
    names = sorted(path.name for path in tmp_path.iterdir())
    faults = trials.faults(tmp_path, names)
    assert [fault.split()[0] for fault in faults] == ["hidden", "a.json", "empty.nii.gz", "n.nii"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("qspace-nd: x.nii.gz is truncated; copy or download it again.", False),
        ("Warning: x.nii.gz has no brain mask beside it.", False),
        ("ValueError: w2 should be positive", True),
        ("lib/nifti1.py:769: UserWarning: Extension size", True),
    ],
)
def test_words_of_pythons_are_known_from_sentences(trials, text, says):
    assert bool(trials.PYTHON.search(text)) == says
