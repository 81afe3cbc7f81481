from __future__ import annotations

import json

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.acquisition import Acquisition, HealthyScan
from tests.imaging.small_scans import table

SCANS = (HealthyScan("a_dwi", "a", "3f2a", 9), HealthyScan("b_dwi", "b", "77c0", 8))


@pytest.mark.parametrize("gradients", [table(), None])
def test_what_a_model_remembers_survives_json(gradients: GradientTable | None) -> None:
    means = np.array([1.5, 0.1, 1 / 3], np.float32)
    told = Acquisition(means, gradients, SCANS, resampled=True, features="rotation-invariant")
    found = Acquisition.from_json(json.loads(json.dumps(told.to_json())))
    np.testing.assert_array_equal(found.channel_means, means)
    assert found.channel_means.dtype == np.float32
    assert (found.scans, found.resampled, found.features) == (SCANS, True, "rotation-invariant")
    if gradients is None:
        assert found.gradients is None
    else:
        assert found.gradients is not None
        np.testing.assert_array_equal(found.gradients.directions, gradients.directions)


def test_models_that_say_nothing_of_it_are_of_volumes_as_scanned() -> None:
    data = Acquisition(np.ones(3, np.float32), None, SCANS).to_json()
    del data["resampled"], data["features"]
    found = Acquisition.from_json(data)
    assert (found.resampled, found.features) == (False, "raw")


def test_a_scan_is_known_again_by_its_content() -> None:
    told = Acquisition(np.ones(3, np.float32), None, SCANS)
    assert told.subject_of("77c0") == "b"
    assert told.subject_of("none") is None
