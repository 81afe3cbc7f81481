"""Each shell of a scan in real spherical harmonics: a regularised fit, linear in the signal.

A shell of n directions g_j is fitted with the even orders up to L, K = (L+1)(L+2)/2 of them, by

    c = (BᵀB + n λ diag(l²(l+1)²))⁻¹ Bᵀ s,    B_jk = Y_k(g_j)

(Descoteaux et al., Magn Reson Med 58:497, 2007). The Laplace-Beltrami penalty is scaled by n, as
BᵀB is, so that shells of 30 and of 60 directions are smoothed alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.diffusion.gradients import SHELL_SPREAD, GradientTable
from qspace_nd.diffusion.products import multiply
from qspace_nd.errors import GradientError, counted

MAX_ORDER = 8

MAX_ERROR = 0.03
"""How far a typical fibre's fit may be from its signal, as a share of b=0: the noise at SNR 33."""

_PENALTY = 0.006 / 60  # λ: Descoteaux's 0.006 at his 60 directions
_FIBRE = (1.7e-3, 0.3e-3)  # mm²/s along and across a typical fibre
_CHUNK = 65_536  # voxels fitted at once
_ROWS_AT_ONCE = 4096  # whose residuals fit the cache


def harmonics(order: int, directions: Float64) -> Float64:
    """Even real spherical harmonics up to `order` at `directions` (n, 3): (n, K)."""
    from dipy.core.geometry import cart2sphere
    from dipy.reconst.shm import real_sh_descoteaux

    _, theta, phi = cart2sphere(*directions.T)
    return np.asarray(real_sh_descoteaux(order, theta, phi, legacy=False)[0], np.float64)


def degrees(order: int) -> Ints:
    """The order l of each of the K harmonics up to `order`."""
    return np.repeat(np.arange(0, order + 1, 2), np.arange(1, 2 * order + 2, 4))


def coefficients_of(order: int) -> int:
    """K, how many even harmonics there are up to `order`."""
    return (order + 1) * (order + 2) // 2


@dataclass(frozen=True, eq=False)
class ShellFit:
    """The fit of one shell.

    Attributes
    ----------
    b : float
        The median b-value, s/mm².
    volumes : (n,) ndarray of int
        The shell's volumes of the scan.
    directions : (n, 3) ndarray
    """

    b: float
    volumes: Ints
    directions: Float64

    @property
    def order(self) -> int:
        """L: the largest up to 8 that has no more harmonics than there are directions."""
        orders = range(0, MAX_ORDER + 1, 2)
        return max(order for order in orders if coefficients_of(order) <= len(self.volumes))

    @cached_property
    def matrix(self) -> Float64:
        """(K, n): from the shell's signal to its coefficients."""
        from dipy.reconst.shm import smooth_pinv

        l = degrees(self.order)  # noqa: E741 - as in the equation
        penalty = np.sqrt(_PENALTY * len(self.volumes)) * l * (l + 1)
        return np.asarray(smooth_pinv(harmonics(self.order, self.directions), penalty))

    def at(self, directions: Float64) -> Float64:
        """(m, n): from the shell's signal to that at `directions` (m, 3)."""
        return np.asarray(harmonics(self.order, directions) @ self.matrix)

    @cached_property
    def typical_error(self) -> float:
        """Root mean square error of the fit of a fibre of any orientation, in any direction.

        As a share of the signal at b=0, without noise.
        """
        from dipy.data import get_sphere

        sphere = get_sphere(name="repulsion100").vertices
        found = _fibres(self.b, sphere, self.directions) @ self.at(sphere).T
        return float(np.sqrt(np.mean((found - _fibres(self.b, sphere, sphere)) ** 2)))

    def noise_variance(self, signal: Float32) -> float:
        """Variance of the noise in `signal` (N, n): the median over the voxels.

        Of the residuals of an unpenalised fit of a lower order where the fit's own leaves none.
        """
        from scipy.stats import chi2

        order = max(
            o for o in range(0, self.order + 1, 2) if coefficients_of(o) < len(self.volumes)
        )
        basis = np.linalg.qr(harmonics(order, self.directions))[0]
        free = len(self.volumes) - coefficients_of(order)
        squares = np.concatenate(
            [np.square(s - (s @ basis) @ basis.T).sum(axis=1) for _, s in chunks(signal)]
        )
        return float(np.median(squares) / chi2.median(free))


@dataclass(frozen=True, eq=False)
class ShellFits:
    """The fits of all shells of a scan.

    Attributes
    ----------
    b0 : (n,) ndarray of int
        The volumes at b=0.
    shells : tuple of ShellFit
        By rising b-values.
    """

    b0: Ints
    shells: tuple[ShellFit, ...]

    def residual(self, values: Float32) -> Float32:
        """Root mean square residual of voxels (N, C) over the volumes, by the voxel's b=0 signal.

        (N,); 0 where there is nothing at b=0.
        """
        # One matrix gives the residuals of all weighted volumes and, last, the mean at b=0.
        weighted = [volume for shell in self.shells for volume in shell.volumes]
        matrix = np.zeros((values.shape[1], values.shape[1]))
        for shell in self.shells:
            fit = shell.at(shell.directions)
            matrix[np.ix_(shell.volumes, shell.volumes)] = np.eye(len(fit)) - fit
        matrix = matrix[[*weighted, self.b0[0]]]
        matrix[-1, self.b0] = 1 / len(self.b0)
        residual = np.zeros(len(values), np.float32)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = values[start : start + _ROWS_AT_ONCE]
            found = np.empty((len(part), len(matrix)), np.float32)
            multiply(part, matrix, found)
            left, b0 = found[:, :-1], found[:, -1]
            rms = np.sqrt(np.einsum("ij,ij->i", left, left) / np.float32(len(weighted)))
            np.divide(rms, b0, out=residual[start : start + len(part)], where=b0 > 0)
        return residual


def fit_shells(table: GradientTable, name: Path | str) -> ShellFits:
    """Fit each shell of a scan's gradient table.

    Raises
    ------
    GradientError
        There is no volume at b=0, or b-values lie in no shells.
    """
    if not table.b0.any():
        raise GradientError(
            f"{name} has no volume at b=0 ({table.shells()}), which a fit in spherical harmonics "
            f"starts from; {_remedy(table)}."
        )
    require_shells(table, name)
    b0, *weighted = table.shell_volumes()
    return ShellFits(
        b0,
        tuple(
            ShellFit(float(np.median(table.bvals[shell])), shell, table.directions[shell])
            for shell in weighted
        ),
    )


def _remedy(table: GradientTable) -> str:
    nearly = table.bvals[table.nearly_b0]
    if not len(nearly):
        return "take a scan with one"
    return f"take b-values up to {nearly.max():g} as 0 with --b0-threshold {nearly.max():g}"


def require_shells(table: GradientTable, name: Path | str) -> None:
    """Check that b-values lie in shells.

    Raises
    ------
    GradientError
        They run from one to the next over more than a shell may spread.
    """
    loose = table.without_shell
    if len(loose):
        share, least = SHELL_SPREAD
        bvals = table.bvals[loose]
        raise GradientError(
            f"{name} has b-values that lie in no shells, {bvals.min():.0f} to {bvals.max():.0f} in "
            f"{counted(len(loose), 'volume')}: a fit in spherical harmonics expects shells, whose "
            f"b-values are within {100 * share:.0f} % or {least:.0f} s/mm² of their median; scans "
            "without can only be taken as they were scanned, where all have one table (--gradients "
            "auto or strict)."
        )


def require_directions(fits: ShellFits, name: Path | str) -> None:
    """Check that a typical fibre's fit errs by no more than `MAX_ERROR` in any shell.

    Raises
    ------
    GradientError
        A shell has too few directions, or they are too badly spread.
    """
    for shell in fits.shells:
        if shell.typical_error > MAX_ERROR:
            raise GradientError(
                f"{name} has too few directions at b={shell.b:.0f}, or spreads them too unevenly, "
                "to be fitted in spherical harmonics, as directions unlike the model's and "
                f"rotation-invariant features require: with its {len(shell.volumes)} the signal of "
                f"a typical fibre errs by {100 * shell.typical_error:.1f} % of b=0; expected at "
                f"most {100 * MAX_ERROR:.0f} %, which up to b=2500 takes 15 well spread ones: take "
                "scans with more directions, or with one table, as they were scanned (--gradients "
                "auto or strict)."
            )


def chunks(values: Float32) -> Iterator[tuple[slice, Float64]]:
    """Cut voxels (N, C) into parts of a fixed size: their rows, and them in double precision."""
    for start in range(0, len(values), _CHUNK):
        rows = slice(start, start + _CHUNK)
        yield rows, values[rows].astype(np.float64)


def _fibres(b: float, axes: Float64, directions: Float64) -> Float64:
    """The signals of fibres along `axes` (m, 3) in `directions` (n, 3), of 1 at b=0: (m, n)."""
    along, across = _FIBRE
    return np.asarray(np.exp(-b * (across + (along - across) * np.square(axes @ directions.T))))
