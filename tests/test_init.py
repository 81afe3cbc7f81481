"""What `import qspace_nd` gives to Python users, and what they hear without any set-up."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import qspace_nd
from tests.conftest import tree_of


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", qspace_nd.__all__)
def test_what_is_named_is_handed_out(name: str) -> None:
    assert getattr(qspace_nd, name) is getattr(qspace_nd, name)
    assert name in dir(qspace_nd)


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = qspace_nd.nothing


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    code = """
        import sys
        import qspace_nd
        sys.exit(sum(name.startswith("qspace_nd.") for name in sys.modules) - 1)  # the version
    """
    assert run(code, tmp_path).returncode == 0


def test_the_package_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qspace_nd", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"qspace-nd {qspace_nd.__version__}\n")


def test_without_any_set_up_warnings_are_heard_and_nothing_else(folder: Path) -> None:
    for path in folder.rglob("*.bv*"):
        path.unlink()
    code = """
        from pathlib import Path
        import qspace_nd
        model = qspace_nd.NoveltyModel(epochs=1)
        qspace_nd.fit_scans(["healthy"], model, "plain")
        qspace_nd.map_scans(["patient.nii.gz"], "plain", "map.nii.gz")
    """
    done = run(code, folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    warnings = done.stderr.splitlines()
    assert sum("HAS NO B-VALUES" in line for line in warnings) == 4
    assert all(line[-1] == "." for line in warnings)  # sentences, not what is said for information
    assert not any(line.startswith(("Wrote", "Reading")) for line in warnings)


def test_a_python_user_can_see_bars(folder: Path) -> None:
    code = """
        import qspace_nd
        qspace_nd.map_scans(["patient.nii.gz"], "qspace-nd-model", "map.nii.gz", progress=True)
    """
    done = run(code, folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert lines == ["Reading patient", "Scoring voxels"]
    assert tree_of(folder)["map.nii.gz"] == tree_of(folder)["novelty.nii.gz"]


def test_a_user_of_logging_hears_what_the_command_line_prints(
    prepared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "qspace_nd")
    monkeypatch.chdir(prepared)
    (checked,) = qspace_nd.check_scans(["patient.nii.gz"])
    assert checked.problem is None
    assert any("are taken as they were scanned" in message for message in caplog.messages)
