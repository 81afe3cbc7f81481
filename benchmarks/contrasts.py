"""Simulated stacks of T1w, T2w and FLAIR: what the heads of a simulated cohort look like by them.

A voxel's tissues k have fractions f_k and properties that vary; its signal in a contrast is

    S = Σ_k f_k ρ_k |1 - 2 exp(-TI / T1_k) + exp(-TR / T1_k)| exp(-TE / T2_k)

without the term of TI where there is no inversion. Times are in ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from qspace_nd.imaging.connected import connected
from qspace_nd.simulation.anatomy import smooth_field
from qspace_nd.simulation.head import FLUID, GREY, WHITE, Subject, rician
from qspace_nd.simulation.nuisance import NUISANCES

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Contrast:
    """A sequence: its echo, repetition and inversion time in ms; None for no inversion."""

    echo: float
    repetition: float
    inversion: float | None = None

    def signal(self, t1: Values, t2: Values) -> Values:
        """Of fully relaxed water's, at 3 T."""
        left = 0.0 if self.inversion is None else 2 * np.exp(-self.inversion / t1)
        sign = -1.0 if self.inversion is None else 1.0
        relaxed = np.abs(1 - left + sign * np.exp(-self.repetition / t1))
        return np.asarray(relaxed * np.exp(-self.echo / t2), np.float32)


CONTRASTS: Mapping[str, Contrast] = {
    "FLAIR": Contrast(100.0, 9000.0, 2500.0),
    "T1w": Contrast(3.0, 2300.0, 900.0),
    "T2w": Contrast(90.0, 5000.0),
}

T1 = np.array([832.0, 1331.0, 4160.0], np.float32)
"""Of white matter, grey matter and fluid (Wansapura et al., J Magn Reson Imaging 9:531, 1999)."""

_T2 = np.array([tissue.t2 for tissue in (WHITE, GREY, FLUID)], np.float32)
_DENSITY = np.array([tissue.proton_density for tissue in (WHITE, GREY, FLUID)], np.float32)
_SOLID = np.array([1.0, 1.0, 0.0], np.float32)  # fluid neither varies nor has lesions
_MIDDLE = np.array([0.0, -20.0, 15.0])  # of the space that nuisance fields are drawn in

LESION = (1.4, 2.1)
"""What a lesion of full severity multiplies T1 and T2 by.

At the mean severity that is a third more signal in T2w and FLAIR and a seventh less in T1w, as in
the drawn lesions of the real patient of `stacks.py` (1.45, 1.26 and 0.85 of white matter).
"""

SEVERITY = (1.2, 2.4)
"""The Beta distribution of lesions' severities, as in the simulated diffusion MRI."""

SNR = 25.0
"""Of white matter in each contrast."""

GAIN = 0.05
"""Standard deviation of a contrast's own gain, which bringing intensities to one scale leaves."""

_TISSUE = 0.04
"""Standard deviation of T1 and T2 over 30 mm; the finer bands are those of the nuisance `rough`."""


def contrasts(subject: Subject, seed: int) -> Values:
    """The stack of a subject (X, Y, Z, 3); the same seed gives a lesion the same severity."""
    rng, severities = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    mask, rough = subject.mask, NUISANCES["rough"]
    points = apply_affine(subject.affine, np.argwhere(mask))
    points = (points - points.mean(axis=0) + _MIDDLE).astype(np.float32)
    factors = np.exp(_TISSUE * smooth_field(rng, 2, 30.0).at(points))
    factors *= rough.tissue_factors(rng, points)[:, :2]
    lesion = _severity(subject, severities)[mask]
    solid = factors[:, :, None] ** _SOLID  # (n, 2, 3)
    solid *= 1 + (np.array(LESION, np.float32)[:, None] - 1) * lesion[:, None, None] * _SOLID
    t1, t2 = T1 * solid[:, 0], _T2 * solid[:, 1]
    amounts = subject.tissues[mask] * _DENSITY
    gain = rough.gain(rng, points)[:, 0]
    stack = np.zeros((*mask.shape, len(CONTRASTS)), np.float32)
    for number, contrast in enumerate(CONTRASTS.values()):
        unit = _DENSITY[0] * contrast.signal(T1[:1], _T2[:1])
        signal = (amounts * contrast.signal(t1, t2)).sum(axis=1) / unit
        signal *= gain * np.exp(rng.normal(0.0, GAIN))
        stack[mask, number] = 1000 * rician(signal.astype(np.float32), 1 / SNR, rng)
    return stack


def _severity(subject: Subject, rng: np.random.Generator) -> Values:
    """How much lesion there is (X, Y, Z): the fraction times the severity of each lesion."""
    lesions, count = connected(subject.lesion_fraction > 0, least=1)
    severities = np.append(0.0, rng.beta(*SEVERITY, size=count)).astype(np.float32)
    return np.asarray(subject.lesion_fraction * severities[lesions], np.float32)
