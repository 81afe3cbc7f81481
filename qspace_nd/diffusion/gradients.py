"""Gradient tables: read in FSL's convention, keep in the world frame, compare and put in order.

Volumes are counted from 0, as FSL and MRtrix count them. A b-value up to 50 s/mm² counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.errors import GradientError

B0_LIMIT = 50.0
"""The largest b-value that counts as 0, in s/mm²."""

MAX_ANGLE = 5.0
"""How far, in degrees, a direction may lie from the model's."""

_LENGTH_TOLERANCE = 0.01  # a unit vector written with two decimals is at most 0.9 % off
_B_TOLERANCE = 0.05
_NAMED = 5  # volumes that a message names before it says how many more there are


@dataclass(frozen=True, eq=False)
class GradientTable:
    """The b-value and the direction of each volume.

    Attributes
    ----------
    bvals : (C,) ndarray
        s/mm².
    directions : (C, 3) ndarray
        Unit vectors in the world frame (RAS+, mm); zero where b counts as 0.
    """

    bvals: Float64
    directions: Float64

    @property
    def b0(self) -> Bools:
        """(C,) bool: which volumes are not diffusion-weighted."""
        return np.asarray(self.bvals <= B0_LIMIT)

    def shell_volumes(self) -> list[Ints]:
        """Give the volumes of each shell, b=0 first; shells are more than 50 s/mm² apart."""
        return _shells(np.where(self.b0, 0.0, self.bvals))

    def shells(self) -> str:
        """Say how many volumes lie near which b-value, as in `6 at b=0, 40 at b=1200`."""
        bvals = np.where(self.b0, 0.0, self.bvals)
        return ", ".join(
            f"{len(shell)} at b={np.median(bvals[shell]):.0f}" for shell in self.shell_volumes()
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain lists, as stored in a model folder."""
        return {"bvals": self.bvals.tolist(), "directions": self.directions.tolist()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> GradientTable:
        """Read what `to_json` gave.

        Raises
        ------
        GradientError
            `stored` is no such table.
        """
        try:
            bvals = np.asarray(stored["bvals"], dtype=np.float64)
            directions = np.asarray(stored["directions"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise GradientError(
                f"The stored gradient table cannot be read ({error!r}); fit the model again."
            ) from error
        if bvals.ndim != 1 or directions.shape != (len(bvals), 3):
            raise GradientError(
                f"The stored gradient table has b-values of shape {bvals.shape} and directions of "
                f"shape {directions.shape}, not (C,) and (C, 3); fit the model again."
            )
        return cls(bvals, directions)


def read_gradients(
    bval: Path | None, bvec: Path | None, affine: npt.ArrayLike, volumes: int
) -> GradientTable:
    """Read a `.bval` and a `.bvec` file of FSL's convention.

    Parameters
    ----------
    bval, bvec : Path or None
        b-vectors as three rows, or as one row a volume; `nan` is taken as 0 where b counts as 0.
    affine : (4, 4) array_like
        The scan's voxel-to-world matrix.
    volumes : int
        How many volumes the scan has.

    Raises
    ------
    GradientError
        One of the two is missing, does not hold finite numbers, is of another count, has negative
        b-values, vectors that are not of unit length at b > 50 (GE's scaled ones and trace volumes
        are told apart), or no diffusion weighting at all.
    """
    if bval is None or bvec is None:
        raise _missing(bval, bvec)
    bvals = _read_bvals(bval, volumes)
    vectors = _read_bvecs(bvec, volumes)
    weighted = bvals > B0_LIMIT
    if not weighted.any():
        raise GradientError(
            f"{bval} has no b-value above {B0_LIMIT:.0f} s/mm² (the largest is {bvals.max():g}); "
            "expected diffusion-weighted volumes: check that the b-values are in s/mm²."
        )
    vectors[~weighted] = 0.0
    if not np.isfinite(vectors).all():
        raise GradientError(
            f"{bvec} has b-vectors that are not finite numbers at b > {B0_LIMIT:.0f}: "
            f"{_name_volumes(np.flatnonzero(~np.isfinite(vectors).all(axis=1)))}; correct them."
        )
    _require_unit_length(bval, bvec, bvals, vectors)
    return GradientTable(bvals, _unit(fsl_to_world(_unit(vectors), affine)))


def fsl_to_world(vectors: Float64, affine: npt.ArrayLike) -> Float64:
    """Turn b-vectors (C, 3) of FSL's convention into the world frame of `affine`.

    FSL's b-vectors are given in image axes, with x flipped where the affine's determinant is
    positive ("radiological" storage is its reference).
    """
    return np.asarray(vectors @ _fsl_axes(affine).T)


def world_to_fsl(directions: Float64, affine: npt.ArrayLike) -> Float64:
    """Undo `fsl_to_world`: world directions (C, 3) as b-vectors for an image of `affine`."""
    return _unit(np.asarray(np.linalg.solve(_fsl_axes(affine), directions.T).T))


def channel_order(
    model: GradientTable, scan: GradientTable, name: Path | str, max_angle: float = MAX_ANGLE
) -> Ints:
    """Find the volume of a scan that serves each channel of a model, one to one.

    Volumes agree where their b-values differ by at most 5 % or 50 s/mm², whichever is larger, and
    their directions, up to sign, by at most `max_angle` degrees.

    Parameters
    ----------
    model, scan : GradientTable
        Of C volumes each.
    name : Path or str
        The scan, for the message.
    max_angle : float
        Degrees.

    Returns
    -------
    (C,) ndarray of int
        `order[i]` is the volume of the scan for channel `i`; the scan's own order where that is
        acceptable.

    Raises
    ------
    GradientError
        There is no such order; the message names volumes, and their b-values or angles.
    """
    if len(model.bvals) != len(scan.bvals):
        raise GradientError(
            f"{name} has {len(scan.bvals)} volumes ({scan.shells()}), but the model was fitted to "
            f"{len(model.bvals)} ({model.shells()}); take a scan of the same protocol, or let "
            "it be resampled with --gradients auto."
        )
    same_b = _same_b(model, scan)  # (C, C): model channel by scan volume
    angles = _angles(model, scan)
    order = np.arange(len(model.bvals))
    acceptable = same_b & (angles <= max_angle)
    if not acceptable.diagonal().all():
        order = _assign(same_b, acceptable, angles)
        order[model.b0] = np.sort(order[model.b0])  # any b=0 serves: keep their order
    _require_same_b(model, scan, name, same_b, order)
    _require_same_directions(scan, name, angles, order, max_angle)
    return order


def _missing(bval: Path | None, bvec: Path | None) -> GradientError:
    if bval is None and bvec is None:
        return GradientError("Neither b-values nor b-vectors were given; name both files.")
    found = bval or bvec
    lacking, option = ("b-vectors", "--bvec") if bvec is None else ("b-values", "--bval")
    return GradientError(
        f"{found} has no {lacking} that belong to it; expected both files beside the scan: "
        f"put the {lacking} there, or name them with {option}."
    )


def _read_rows(path: Path) -> list[list[float]]:
    try:
        lines = path.read_text().replace(",", " ").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines]
    except FileNotFoundError as error:
        raise GradientError(f"{path} does not exist; name a file that does.") from error
    except OSError as error:
        raise GradientError(
            f"{path} cannot be read ({error.strerror or error}); check it and its permissions."
        ) from error
    except ValueError as error:
        raise GradientError(
            f"{path} holds something else than numbers ({error}); expected numbers that are "
            "separated by spaces, as dcm2niix and FSL write them."
        ) from error
    return [row for row in rows if row]


def _read_bvals(path: Path, volumes: int) -> Float64:
    bvals = np.array([b for row in _read_rows(path) for b in row], dtype=np.float64)
    if len(bvals) != volumes:
        raise _other_count(path, f"{len(bvals)} b-values", volumes)
    wrong = np.flatnonzero(~(bvals >= 0) | np.isinf(bvals))
    if len(wrong):
        raise GradientError(
            f"{path} has b-values that are negative or not finite: "
            f"{_name_volumes(wrong, [f'{b:g}' for b in bvals[wrong]])}; expected s/mm² from 0 up: "
            "correct them."
        )
    return bvals


def _read_bvecs(path: Path, volumes: int) -> Float64:
    rows = _read_rows(path)
    lengths = {len(row) for row in rows}
    if lengths == {volumes} and len(rows) == 3:
        return np.array(rows, dtype=np.float64).T.copy()
    if lengths == {3} and len(rows) == volumes:
        return np.array(rows, dtype=np.float64)
    if len(lengths) > 1:
        found = f"rows of unequal lengths ({', '.join(str(len(row)) for row in rows[:_NAMED])})"
    elif len(rows) == 3 or lengths == {3}:
        found = f"{max(lengths) if len(rows) == 3 else len(rows)} b-vectors"
    else:
        found = f"{len(rows)} rows of {max(lengths, default=0)} numbers"
    raise _other_count(path, found, volumes)


def _other_count(path: Path, found: str, volumes: int) -> GradientError:
    return GradientError(
        f"{path} has {found}, but its scan has {volumes} volumes; expected one for each volume: "
        "check that the file belongs to the scan."
    )


def _require_unit_length(bval: Path, bvec: Path, bvals: Float64, vectors: Float64) -> None:
    weighted = bvals > B0_LIMIT
    lengths = np.linalg.norm(vectors, axis=1)
    is_unit = np.abs(lengths - 1) <= _LENGTH_TOLERANCE
    is_zero = lengths < _LENGTH_TOLERANCE
    if (is_unit | ~weighted).all():
        return
    if _lengths_scale_b(bvals[weighted], lengths[weighted]):
        scaled = bvals * lengths**2
        effective = [np.median(scaled[shell]) for shell in _shells(scaled)]
        raise GradientError(
            f"{bvec} has vectors of length {lengths[weighted].min():.2f} to "
            f"{lengths[weighted].max():.2f} where {bval.name} has b={bvals[weighted].max():g} "
            "throughout: their lengths scale b, as GE scanners store several shells, and the "
            f"effective b-values b·|g|² are {', '.join(f'{b:.0f}' for b in effective)}; write "
            "these to the b-value file and divide each vector by its length."
        )
    if is_zero[weighted].all():
        raise GradientError(
            f"{bvec} has only zero vectors, also at b > {B0_LIMIT:.0f}; expected directions: if "
            "the scan holds trace images only, remove both gradient files to read its volumes as "
            "plain channels."
        )
    if (is_unit | is_zero | ~weighted).all():
        trace = is_zero & weighted
        raise GradientError(
            f"{bvec} has zero vectors at b > {B0_LIMIT:.0f}: {_name_volumes(np.flatnonzero(trace))}"
            ", which are trace (mean diffusivity) images that the scanner computed; remove them "
            "from the scan and from both gradient files, with `mrconvert -coord 3 "
            f"{_ranges(np.flatnonzero(~trace))} -fslgrad ... -export_grad_fsl ...` for instance."
        )
    wrong = np.flatnonzero(weighted & ~is_unit)
    raise GradientError(
        f"{bvec} has vectors that are not of unit length at b > {B0_LIMIT:.0f}: "
        f"{_name_volumes(wrong, [f'length {length:.3g}' for length in lengths[wrong]])}; check "
        "that the file belongs to the scan, and normalise the vectors."
    )


def _lengths_scale_b(bvals: Float64, lengths: Float64) -> bool:
    """Tell whether one nominal b is shared and the longest vector alone is of unit length."""
    one_b = np.ptp(bvals) <= _B_TOLERANCE * bvals.max()
    longest_is_unit = abs(lengths.max() - 1) <= _LENGTH_TOLERANCE
    between = (lengths > 0.05) & (lengths < 1 - _LENGTH_TOLERANCE)
    return bool(one_b and longest_is_unit and between.any())


def _fsl_axes(affine: npt.ArrayLike) -> Float64:
    """(3, 3): the world directions of FSL's three axes, as columns."""
    axes = _unit(np.asarray(affine, dtype=np.float64)[:3, :3].T).T
    if np.linalg.det(axes) > 0:
        axes[:, 0] *= -1.0
    return axes


def _unit(vectors: Float64) -> Float64:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _same_b(model: GradientTable, scan: GradientTable) -> Bools:
    ours = np.where(model.b0, 0.0, model.bvals)[:, None]
    theirs = np.where(scan.b0, 0.0, scan.bvals)[None, :]
    allowed = np.maximum(B0_LIMIT, _B_TOLERANCE * np.maximum(ours, theirs))
    return np.asarray(np.abs(ours - theirs) <= allowed)


def _angles(model: GradientTable, scan: GradientTable) -> Float64:
    """(C, C) angles in degrees up to sign; 0 between two volumes of b=0."""
    # The arc tangent keeps small angles exact where the arc cosine loses half the digits.
    ours, theirs = model.directions[:, None], scan.directions[None, :]
    sine = np.linalg.norm(np.cross(ours, theirs), axis=-1)
    angles = np.degrees(np.arctan2(sine, np.abs((ours * theirs).sum(axis=-1))))
    return np.where(model.b0[:, None] & scan.b0[None, :], 0.0, angles)


def _assign(same_b: Bools, acceptable: Bools, angles: Float64) -> Ints:
    """Match one to one: first as few other b-values, then as few wide angles as possible."""
    from scipy.optimize import linear_sum_assignment

    wide = 90.0 * len(angles)  # more than all the angles that an assignment can save elsewhere
    penalty = wide * ((~acceptable).astype(np.float64) + len(angles) * ~same_b)
    order: Ints = linear_sum_assignment(angles + penalty)[1]
    return order


def _require_same_b(
    model: GradientTable,
    scan: GradientTable,
    name: Path | str,
    same_b: Bools,
    order: Ints,
) -> None:
    other = np.flatnonzero(~same_b[np.arange(len(order)), order])
    if not len(other):
        return
    found = [f"b={scan.bvals[order[i]]:g} for the model's {model.bvals[i]:g}" for i in other]
    raise GradientError(
        f"{name} has other b-values than the model: {_name_volumes(order[other], found)}; expected "
        f"{model.shells()} within 5 % or 50 s/mm², found {scan.shells()}: take a scan of the same "
        "protocol."
    )


def _require_same_directions(
    scan: GradientTable,
    name: Path | str,
    angles: Float64,
    order: Ints,
    max_angle: float,
) -> None:
    off = angles[np.arange(len(order)), order]  # (C,) by the model's channels
    wide = np.flatnonzero(off > max_angle)
    if not len(wide):
        return
    wide = wide[np.argsort(-off[wide], kind="stable")]
    raise GradientError(
        f"{name} has other gradient directions than the model in {len(wide)} of "
        f"{np.count_nonzero(~scan.b0)} weighted volumes: "
        f"{_name_volumes(order[wide], [f'{angle:.1f}°' for angle in off[wide]])}; expected at most "
        f"{max_angle:g}° in the world frame: take a scan of the same protocol and slab "
        "orientation, allow more with --max-angle, or let it be resampled with --gradients auto."
    )


def _shells(bvals: Float64) -> list[Ints]:
    """Part volumes where two neighbouring b-values differ by more than 50 s/mm², by rising b."""
    volumes = np.argsort(bvals, kind="stable")
    starts = np.flatnonzero(np.diff(bvals[volumes]) > B0_LIMIT) + 1
    return [np.sort(shell) for shell in np.split(volumes, starts)]


def _name_volumes(volumes: Ints, details: Sequence[str] = ()) -> str:
    words = [f"{volume}" for volume in volumes[:_NAMED]]
    words = [f"{word} ({detail})" for word, detail in zip(words, details, strict=False)] or words
    more = f" and {len(volumes) - _NAMED} more" if len(volumes) > _NAMED else ""
    return f"volume{'s' if len(volumes) > 1 else ''} {', '.join(words)}{more} (counted from 0)"


def _ranges(volumes: Ints) -> str:
    """Write sorted numbers as MRtrix takes them: `0:12,14:25`."""
    runs = np.split(volumes, np.flatnonzero(np.diff(volumes) != 1) + 1)
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}:{run[-1]}" for run in runs)
