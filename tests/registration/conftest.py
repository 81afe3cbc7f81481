"""Simulated heads whose deformation is known, and a template of some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qspace_nd.diffusion.tensor import tissue_features
from qspace_nd.registration.images import Images, images_of, moved, shown_of
from qspace_nd.registration.places import Registration, register
from qspace_nd.registration.template import Template, build_template
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.head import standard_table

TABLE = standard_table(unweighted=2, directions=12)


@dataclass(frozen=True)
class Head:
    """A simulated scan: its features (n, 3), where they lie, and the same for registration."""

    features: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    images: Images

    @property
    def points(self) -> np.ndarray:
        return moved(np.argwhere(self.mask), self.affine)

    def with_affine(self, affine: np.ndarray) -> Head:
        """The same voxels, said to lie elsewhere."""
        images = images_of(shown_of(self.features), self.mask, affine)
        return Head(self.features, self.mask, affine, images)


def head(index: int) -> Head:
    """A head of two thirds of its size, in voxels of 3 mm, so that the tests are quick."""
    subject = Simulation(voxel_size=4.5, table=TABLE, seed=77).control(index)
    affine = np.diag([*[2 / 3] * 3, 1.0]) @ subject.affine
    signal = subject.signal[subject.mask]
    features = tissue_features(signal / signal.mean(), TABLE)
    images = images_of(shown_of(features), subject.mask, affine)
    return Head(features, subject.mask, affine, images)


@pytest.fixture(scope="package")
def heads() -> list[Head]:
    return [head(index) for index in range(4)]


@pytest.fixture(scope="package")
def upright(heads: list[Head], template: Template) -> Registration:
    """Of the fourth head."""
    return register(heads[3].images, template)


@pytest.fixture(scope="package")
def template(heads: list[Head]) -> Template:
    """Of the first three heads; the fourth is nobody it knows."""
    return build_template([one.images for one in heads[:3]])
