"""`qspace-nd check`."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Run, tree_of


def test_check_exits_with_0_where_all_scans_can_be_used(prepared: Path, call: Run) -> None:
    before = tree_of(prepared)
    outcome = call("check healthy/*.nii.gz patient.nii.gz --model qspace-nd-model", prepared)
    assert outcome.status == 0
    assert "4 of 4 scans can be used." in outcome.stdout
    assert "14 channels: 2 at b=0, 12 at b=1200" in outcome.stdout
    assert tree_of(prepared) == before
