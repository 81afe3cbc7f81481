"""Nuisance fields: what varies in healthy scans and is no lesion, broadly and finely.

Smooth variation alone flatters every method that takes a smooth background off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.simulation.anatomy import smooth_field

Bands = Sequence[tuple[float, float]]
"""Pairs of a length in mm and the standard deviation of the logarithm."""


@dataclass(frozen=True)
class Nuisance:
    """What is added to the broad variation that every scan has (tissue 30 mm, receiver 90 mm).

    Attributes
    ----------
    tissue : pairs of float
        Of T2, the diffusivity and the anisotropy, each by itself.
    receive : pairs of float
        Of the receiver's gain.
    """

    tissue: Bands = ()
    receive: Bands = ()

    def tissue_factors(self, rng: np.random.Generator, points: Float32) -> Float32:
        """What multiplies T2, diffusivity and anisotropy at points (n, 3): (n, 3)."""
        return _factors(self.tissue, 3, rng, points)

    def gain(self, rng: np.random.Generator, points: Float32) -> Float32:
        """What multiplies the signal at points (n, 3): (n, 1)."""
        return _factors(self.receive, 1, rng, points)


SMOOTH = Nuisance()
NUISANCES: Mapping[str, Nuisance] = MappingProxyType(
    {
        "smooth": SMOOTH,
        "rough": Nuisance(tissue=((10.0, 0.03), (4.0, 0.03)), receive=((40.0, 0.04), (15.0, 0.03))),
    }
)
"""The nuisance fields by name."""


def _factors(bands: Bands, channels: int, rng: np.random.Generator, points: Float32) -> Float32:
    logarithm = np.zeros((len(points), channels), np.float32)
    for length, deviation in bands:
        logarithm += np.float32(deviation) * smooth_field(rng, channels, length).at(points)
    return np.exp(logarithm)
