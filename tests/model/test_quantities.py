"""The quantities by which it is told in what a voxel differs, and which scans have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.tensor import tissue_features
from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import ROTATION_INVARIANT
from qspace_nd.imaging.stack import Stack
from qspace_nd.model.quantities import Quantities
from qspace_nd.simulation.head import standard_table

TABLE = standard_table(unweighted=2, directions=12)
MEANS = np.linspace(1.5, 0.5, 14).astype(np.float32)
SCANS = Acquisition(MEANS, TABLE, ())
STACK = Acquisition(MEANS[:2], None, (), stack=Stack.of(2).called(["FLAIR", "T1w"]))


def test_they_are_those_of_the_tensor_and_of_each_shell() -> None:
    told = Quantities.of(SCANS)
    x = np.random.default_rng(0).uniform(0.5, 1.5, (40, 14)).astype(np.float32)
    assert told.names == ("b0", "md", "fa", "b1200")
    np.testing.assert_allclose(told.tissue(x), tissue_features(x * MEANS, TABLE), rtol=1e-5)
    shell = np.log((x * MEANS)[:, ~TABLE.b0].mean(axis=1))
    np.testing.assert_allclose(told.shells(x)[:, 0], shell, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("acquisition", [SCANS, STACK], ids=["tensor", "stack"])
def test_a_voxels_do_not_depend_on_the_voxels_that_it_is_among(acquisition: Acquisition) -> None:
    told = Quantities.of(acquisition)
    channels = len(acquisition.channel_means)
    x = np.random.default_rng(0).uniform(-0.01, 1.5, (40, channels)).astype(np.float32)
    for of in (told.tissue, told.shells):
        np.testing.assert_array_equal(of(x)[5:6], of(x[5:6]))


def test_those_of_a_stack_are_the_logarithms_of_its_channels() -> None:
    told = Quantities.of(STACK)
    x = np.random.default_rng(0).uniform(0.5, 1.5, (4, 2)).astype(np.float32)
    assert told.names == ("FLAIR", "T1w")
    np.testing.assert_allclose(told.tissue(x), np.log(x * MEANS[:2]), rtol=1e-5, atol=1e-6)
    assert told.shells(x).shape == (4, 0)


@pytest.mark.parametrize(
    ("acquisition", "says"),
    [
        (replace(SCANS, features=ROTATION_INVARIANT), "no volumes at b=0 and six directions"),
        (
            replace(SCANS, gradients=GradientTable(TABLE.bvals[:4], TABLE.directions[:4])),
            "no volumes at b=0 and six directions",
        ),
        (None, "no volumes at b=0 and six directions"),
        (replace(STACK, channel_means=np.float32([1, -0.2])), "the model's have a mean of -0.2"),
    ],
)
def test_scans_that_nothing_can_be_told_of_are_refused(
    acquisition: Acquisition | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Quantities.of(acquisition)
