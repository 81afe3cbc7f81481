"""Simulated heads: an anatomy, multi-tensor signal, healthy variation and lesions, in memory.

A head is the ICBM152 tissue maps, seen through a smooth deformation, or a person's as they are.
White matter has two crossing fibre populations, which follow the head's own sheets of white matter
and the place in ICBM152 space; grey matter and fluid are isotropic. Every compartment k has a
fraction f_k, a b=0 signal and an axially symmetric tensor:

    S(b, g) = Σ_k f_k S0_k exp(-b (d⊥_k + (d∥_k - d⊥_k) (g·n_k)²)),  S0_k = ρ_k exp(-TE / T2_k)

Positions are millimetres in the world frame, diffusivities mm²/s, times milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from qspace_nd.arrays import Bools, Field, Float32, Float64
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import InputError
from qspace_nd.simulation.anatomy import Anatomy, lattice_points, smooth_field
from qspace_nd.simulation.lesions import LESION_KINDS, LesionKind, LesionMask, lesion_field
from qspace_nd.simulation.mass_effect import SEVERITY, Tumour, before_growth, followed_by
from qspace_nd.simulation.nuisance import SMOOTH, Nuisance

Seed = int | np.random.SeedSequence

ECHO_TIME = 90.0
WHITE_MATTER_SIGNAL = 600.0
"""What healthy white matter reads at b=0 where the receiver gain is 1."""


@dataclass(frozen=True)
class Tissue:
    """A compartment: relative proton density, T2 (ms) and diffusivities (mm²/s)."""

    proton_density: float
    t2: float
    parallel: float
    perpendicular: float

    @property
    def unweighted(self) -> float:
        """The signal at b=0 relative to fully relaxed water."""
        return self.proton_density * math.exp(-ECHO_TIME / self.t2)


WHITE = Tissue(proton_density=0.70, t2=78.0, parallel=1.65e-3, perpendicular=0.35e-3)
GREY = Tissue(proton_density=0.82, t2=92.0, parallel=0.85e-3, perpendicular=0.85e-3)
FLUID = Tissue(proton_density=1.00, t2=1500.0, parallel=3.0e-3, perpendicular=3.0e-3)


@dataclass(frozen=True)
class Subject:
    """One simulated scan.

    Attributes
    ----------
    signal : array (X, Y, Z, C) float32
        0 where the brain is more than two voxels away.
    mask, labels, white_matter : array (X, Y, Z) bool
        The brain, lesions filling at least half of a voxel, and white matter likewise.
    tissues : array (X, Y, Z, 3) float32
        Fractions of white matter, grey matter and fluid.
    lesion_fraction : array (X, Y, Z) float32
    affine : array (4, 4)
    push : array (X, Y, Z, 3) float32 or None
        From where tissue lies to where it lay before a tumour pushed it, in mm of the world.
    """

    signal: Float32
    mask: Bools
    labels: Bools
    white_matter: Bools
    tissues: Float32
    lesion_fraction: Float32
    affine: Float64
    push: Float32 | None = None


def simulate_subject(
    anatomy: Anatomy,
    table: GradientTable,
    seed: Seed,
    *,
    lesions: LesionMask | None = None,
    tumour: Tumour | None = None,
    kind: LesionKind = LESION_KINDS["demyelinating"],
    snr: float = 20.0,
    nuisance: Nuisance = SMOOTH,
) -> Subject:
    """Simulate one scan.

    The body, the lesions' severities, the noise and what a nuisance adds are drawn independently:
    a seed gives the same head and the same noise with and without lesions.

    Parameters
    ----------
    anatomy : Anatomy
    table : GradientTable
        Of the C volumes.
    seed : int or SeedSequence
    lesions : pair of array (X, Y, Z) bool and array (4, 4), optional
        A lesion mask in the space of the anatomy's maps and its affine; None for a healthy subject.
    tumour : Tumour, optional
        In the same space; it takes the place of `lesions`.
    kind : LesionKind
        What the lesions do to tissue.
    snr : float
        Of white matter at b=0, before the receiver's gain varies.
    nuisance : Nuisance
        What varies beside the broad fields that all subjects have.

    Raises
    ------
    InputError
        The signal-to-noise ratio is not positive.
    """
    require_snr(snr)
    body, severities, noise, rough = (np.random.default_rng(s) for s in _sequence(seed).spawn(4))
    points = anatomy.points()
    deformation = _STILL if anatomy.own_shape else _deformation(body)
    displacement = followed_by(deformation, tumour.growth) if tumour else deformation
    there = points + displacement.at(points)  # (X, Y, Z, 3), in the maps' space
    tissues = np.clip(anatomy.tissues.at(there), 0.0, 1.0)
    mask, visible = _brain(tissues)
    altered = np.zeros((*anatomy.shape, 2), np.float32)
    if tumour is not None:
        lesions, kind = tumour.lesions, replace(kind, severity=SEVERITY)
    if lesions is not None:
        lesion_map = lesion_field(*lesions, kind, anatomy.voxel_size, severities)
        altered = lesion_map.at(there) * (1 - tissues[..., 2:])  # fluid has no lesion

    here, place = points[visible], anatomy.in_common_space(there[visible])  # (n, 3)
    regions, own = anatomy.regions.at(place), smooth_field(body, 10, length=30.0).at(place)
    directions = _directions_in(anatomy, there[visible], regions, own, displacement, here)
    compartments = _compartments(regions, own, tissues[visible], directions, body)
    compartments = compartments.varied(nuisance.tissue_factors(rough, place))
    voxels = compartments.with_lesion(kind, altered[visible][:, 1]).signal(table)  # (n, C)
    voxels *= _receiver(body, anatomy.in_common_space(here))[:, None]
    voxels *= nuisance.gain(rough, anatomy.in_common_space(here))
    signal = np.zeros((*anatomy.shape, len(table.bvals)), np.float32)
    signal[visible] = WHITE_MATTER_SIGNAL * rician(voxels, 1 / snr, noise)
    return Subject(
        signal=signal,
        mask=mask,
        labels=mask & (altered[..., 0] >= 0.5),
        white_matter=mask & (tissues[..., 0] >= 0.5),
        tissues=tissues,
        lesion_fraction=altered[..., 0],
        affine=anatomy.affine,
        push=before_growth(points, there, deformation) if tumour else None,
    )


def common_places(anatomy: Anatomy, seed: Seed, points: Float32) -> Float32:
    """Where points (..., 3) of a healthy simulated head lie in the common space, in mm.

    The truth that a registration is measured by; `seed` is the head's.
    """
    if anatomy.own_shape:
        return anatomy.in_common_space(points)
    body = np.random.default_rng(_sequence(seed).spawn(1)[0])
    return anatomy.in_common_space(points + _deformation(body).at(points))


def require_snr(snr: float) -> None:
    """Raise an InputError unless the signal-to-noise ratio is positive, and finite."""
    if not 0 < snr < math.inf:
        raise InputError(f"The signal-to-noise ratio is {snr}; give a positive one.")


def multi_tensor_signal(
    table: GradientTable,
    weights: Float32,
    parallel: Float32,
    perpendicular: Float32,
    directions: Float32,
) -> Float32:
    """The noise-free signal of axially symmetric tensors: Σ_k w_k exp(-b gᵀ D_k g).

    Equal to the weighted sum of `dipy.reconst.dti.tensor_prediction`, with the quadratic form
    written out for D = d⊥ I + (d∥ - d⊥) n nᵀ.

    Parameters
    ----------
    table : GradientTable
        Of C volumes, directions in the world frame.
    weights, parallel, perpendicular : array (n, K)
        b=0 signal times fraction; diffusivities along and across the axis, in mm²/s.
    directions : array (n, K, 3)
        The tensors' axes, unit vectors of the world frame.

    Returns
    -------
    array (n, C) float32
    """
    b = table.bvals.astype(np.float32)
    g = table.directions.astype(np.float32)
    signal = np.zeros((len(weights), len(b)), np.float32)
    for k in range(weights.shape[1]):
        exponent = directions[:, k].astype(np.float32) @ g.T  # (n, C)
        np.square(exponent, out=exponent)
        exponent *= (parallel - perpendicular)[:, k, None]
        exponent += perpendicular[:, k, None]
        exponent *= -b
        np.exp(exponent, out=exponent)
        exponent *= weights[:, k, None]
        signal += exponent
    return signal


def rician(signal: Float32, sigma: float, rng: np.random.Generator) -> Float32:
    """The magnitude of `signal` with complex Gaussian noise of standard deviation `sigma`."""
    real = rng.standard_normal(signal.shape, np.float32) * np.float32(sigma) + signal
    imaginary = rng.standard_normal(signal.shape, np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(real, imaginary))


def standard_table(
    *, unweighted: int = 6, directions: int = 40, bvalue: float = 1200.0
) -> GradientTable:
    """A single shell of evenly spread directions, with the b=0 volumes spread among them.

    Raises
    ------
    InputError
        There would be fewer than 1 unweighted volume or 6 directions, or b is not positive.
    """
    from dipy.core.sphere import HemiSphere, disperse_charges

    if unweighted < 1 or directions < 6 or not bvalue > 0:
        raise InputError(
            f"{unweighted} b=0 volumes and {directions} directions at b={bvalue} s/mm² are no "
            "usual protocol; choose at least 1 and 6, and a positive b-value."
        )
    # A Fibonacci spiral to start from makes the electrostatic repulsion deterministic.
    turn = np.arange(directions)
    z = (turn + 0.5) / directions
    angle = turn * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - z**2)
    spiral = HemiSphere(x=radius * np.cos(angle), y=radius * np.sin(angle), z=z)
    spread, _ = disperse_charges(spiral, 200)
    total = unweighted + directions
    at = np.round(np.arange(unweighted) * total / unweighted).astype(int)
    weighted = np.setdiff1d(np.arange(total), at)
    bvals, vectors = np.zeros(total), np.zeros((total, 3))
    bvals[weighted], vectors[weighted] = bvalue, spread.vertices
    return GradientTable(bvals, vectors)


def _deformation(rng: np.random.Generator) -> Field:
    """A smooth deformation of a few mm: broad differences of shape and finer ones of folding."""
    fine = smooth_field(rng, 3, length=14.0)
    broad = smooth_field(rng, 3, length=50.0)
    shape = broad.at(lattice_points(fine.values.shape[1:], fine.affine))
    return Field(2.0 * np.moveaxis(shape, -1, 0) + 0.8 * fine.values, fine.affine)


_STILL = Field(np.zeros((3, 2, 2, 2), np.float32), np.eye(4))
"""No deformation."""


def _brain(tissues: Float32) -> tuple[Bools, Bools]:
    """The brain mask, and the voxels that have signal: the brain and two voxels around it."""
    from scipy import ndimage

    mask = ndimage.binary_fill_holes(tissues.sum(axis=-1) >= 0.5)
    return mask, ndimage.binary_dilation(mask, iterations=2)


# --- tissue ----------------------------------------------------------------------------------

_TISSUES = (WHITE, WHITE, GREY, FLUID)
_DENSITY, _T2, _PARALLEL, _PERPENDICULAR = (
    np.array([getattr(tissue, name) for tissue in _TISSUES], np.float32)
    for name in ("proton_density", "t2", "parallel", "perpendicular")
)
_SOLID = np.array([1, 1, 1, 0], np.float32)  # fluid neither varies nor has lesions
_FIBRES = np.array([1, 1, 0, 0], np.float32)


@dataclass(frozen=True)
class _Compartments:
    """Two fibre populations, grey matter and fluid in n voxels.

    Attributes
    ----------
    fractions, t2, parallel, perpendicular : array (n, 4)
    directions : array (n, 4, 3)
    """

    fractions: Float32
    t2: Float32
    parallel: Float32
    perpendicular: Float32
    directions: Float32

    def varied(self, factors: Float32) -> _Compartments:
        """The compartments with T2, diffusivity and anisotropy multiplied by `factors` (n, 3)."""
        t2, diffusivity, anisotropy = np.moveaxis(factors[:, :, None], 1, 0)
        return replace(
            self,
            t2=self.t2 * t2**_SOLID,
            parallel=self.parallel * diffusivity**_SOLID,
            perpendicular=self.perpendicular * diffusivity**_SOLID * anisotropy**_FIBRES,
        )

    def with_lesion(self, kind: LesionKind, amount: Float32) -> _Compartments:
        """The compartments where a lesion acts in the measure `amount` (n,), from 0 to 1."""
        solid = amount[:, None] * _SOLID
        return replace(
            self,
            t2=self.t2 * (1 + (kind.t2 - 1) * solid),
            parallel=self.parallel * (1 + (kind.parallel - 1) * solid),
            perpendicular=self.perpendicular * (1 + (kind.perpendicular - 1) * solid),
        )

    def signal(self, table: GradientTable) -> Float32:
        """The noise-free signal (n, C), white matter at b=0 being about 1."""
        relative = self.fractions * _DENSITY * np.exp(-ECHO_TIME / self.t2)
        weights = relative / np.float32(WHITE.unweighted)
        return multi_tensor_signal(
            table, weights, self.parallel, self.perpendicular, self.directions
        )


def _compartments(
    regions: Float32, own: Float32, tissues: Float32, directions: Float32, rng: np.random.Generator
) -> _Compartments:
    """Healthy tissue as it varies over the head (`regions`) and in one subject (`own`)."""
    crossing = 0.3 * (1 + np.tanh(regions[:, 6] + 0.3 * own[:, 6]))
    white, grey, fluid = tissues.T
    globally = rng.normal(0.0, 0.03, size=3).astype(np.float32)
    variation = np.exp(0.05 * regions[:, 7:] + 0.04 * own[:, 7:] + globally)  # (n, 3)
    t2, diffusivity, anisotropy = np.moveaxis(variation[:, :, None], 1, 0)
    return _Compartments(
        fractions=np.stack([white * (1 - crossing), white * crossing, grey, fluid], axis=1),
        t2=_T2 * t2**_SOLID,
        parallel=_PARALLEL * diffusivity**_SOLID,
        perpendicular=_PERPENDICULAR * diffusivity**_SOLID * anisotropy**_FIBRES,
        directions=directions,
    )


def _directions_in(
    anatomy: Anatomy,
    there: Float32,
    regions: Float32,
    own: Float32,
    displacement: Field,
    here: Float32,
) -> Float32:
    """Axes of the compartments at points `here` (n, 3) whose tissue is from `there`: (n, 4, 3).

    The rule is told in the common space, so that fibres turn with the head, and slopes are brought
    there as slopes are, by the inverse.
    """
    linear = anatomy.common[:3, :3]
    inward = anatomy.inward.at(there) @ np.linalg.inv(linear).astype(np.float32)
    bend = np.eye(3, dtype=np.float32) + displacement.gradient().at(here).reshape(-1, 3, 3)
    place = anatomy.in_common_space(there)
    stem = _stem(place) if anatomy.own_shape else np.zeros((len(place), 1), np.float32)
    return _fibre_directions(inward, place, regions, own, linear.astype(np.float32) @ bend, stem)


def _stem(place: Float32) -> Float32:
    """How far points (n, 3) of the common space are brain stem, from 0 to 1: (n, 1)."""
    x, y, z = np.moveaxis(place[:, :, None], 1, 0)
    near = np.exp(-np.square(x / 20.0) - np.square((y + 28.0) / 20.0))
    return np.asarray(near / (1 + np.exp((z + 10.0) / 4.0)))


def _fibre_directions(
    inward: Float32,
    there: Float32,
    regions: Float32,
    own: Float32,
    turn: Float32,
    stem: Float32,
) -> Float32:
    """Axes of the compartments: (n, 4, 3); those of grey matter and fluid do not matter.

    The first population runs along the sheets of white matter, sideways near the midline, upwards
    in the brain `stem` (n, 1) and lengthwise else; the second fans out from the depth to the
    cortex. Both wander.
    """
    steepness = np.linalg.norm(inward, axis=1, keepdims=True)
    radial = inward / (steepness + 0.02)
    midline = np.exp(-np.square(there[:, :1] / 20.0))
    along = np.array([0, 1, 0], np.float32) * (1 - midline)
    across = np.array([2, 0, 0], np.float32) * midline * (1 - stem)
    along = along + np.array([0, 0, 2], np.float32) * stem
    first = along + across + 0.6 * regions[:, :3] + 0.15 * own[:, :3]
    first = first - radial * np.sum(first * radial, axis=1, keepdims=True)
    upward = np.array([0, 0, 0.7], np.float32)
    second = 1.5 * radial + upward + 0.3 * regions[:, 3:6] + 0.15 * own[:, 3:6]

    # The common space's direction d is J⁻¹ d in the subject where p lies at A (p + u(p)) in it,
    # `turn` J = A (I + ∇u).
    bent = np.linalg.solve(turn, np.stack([first, second], axis=-1))  # (n, 3, 2)
    fibres = np.swapaxes(bent, 1, 2)
    directions = np.zeros((len(there), 4, 3), np.float32)
    directions[..., 0] = 1.0
    directions[:, :2] = fibres / np.linalg.norm(fibres, axis=-1, keepdims=True).clip(1e-6)
    return directions


def _receiver(rng: np.random.Generator, points: Float32) -> Float32:
    """The receiver's gain, one for the scan, and its bias field of about ±15 %: (n,)."""
    gain = rng.normal(0.0, 0.2)
    bias = smooth_field(rng, 1, length=90.0).at(points)[:, 0]
    return np.asarray(np.exp(np.float32(0.075) * bias + np.float32(gain)))


def _sequence(seed: Seed) -> np.random.SeedSequence:
    """A fresh sequence: `spawn` counts, so a used one would give other children."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(seed)
