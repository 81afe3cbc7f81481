from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from qspace_nd.calibration.null import HealthyMap
from qspace_nd.calibration.summary import Summary
from qspace_nd.model.nulls import Measured
from qspace_nd.workflows.significance import COLUMNS, significance

AFFINE, SHAPE = np.diag([2.0, 2, 2, 1]), (9, 9, 9)


class _Model:
    """A model of which its healthy people's maps alone are known."""

    def __init__(self, maps: list[HealthyMap]) -> None:
        self.maps = maps

    def summary(self, measured: Measured, forming: float, leave_out: str | None) -> Summary:
        return Summary.of(self.maps, forming)


def test_several_scans_of_a_person_count_as_one_person() -> None:
    random, mask = np.random.default_rng(0), np.ones(SHAPE, np.bool_)

    def novelty() -> np.ndarray[Any, np.dtype[np.float32]]:
        return random.gamma(3, size=mask.size).astype(np.float32)

    subjects = ["a", "a", "a", "b", "c", "d"]
    model = _Model([HealthyMap(subject, novelty(), mask, AFFINE) for subject in subjects])
    scan = SimpleNamespace(grid=SimpleNamespace(affine=AFFINE))
    found = significance(
        novelty(),
        cast(Any, SimpleNamespace(mask=mask, scan=scan)),
        cast(Any, model),
        Measured("latent-distance", 10),
        forming=0.05,
    )
    assert found.people == found.facts()["HealthyPeople"] == 4
    assert {len(one.healthy) for one in found.standings.values()} == {4}
    assert len(found.heights) == 6
    assert "of 4 healthy people" in found.sentence("x")
    people = COLUMNS.index("people")
    assert all(line.split("\t")[people] == "4" for line in found.table().splitlines()[1:])
