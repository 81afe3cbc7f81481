"""FSL's gradient files, `.bval` and `.bvec`: read into the world frame, and written from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.diffusion.gradients import (
    B0_LIMIT,
    B_TOLERANCE,
    LOW_B,
    NAMED,
    GradientTable,
    name_volumes,
    shells_of,
)
from qspace_nd.errors import GradientError, counted, listed
from qspace_nd.system.writing import replacing

_LENGTH_TOLERANCE = 0.01  # a unit vector written with two decimals is at most 0.9 % off

_MOST_B = 1e6  # s/mm²: of specimens up to 100,000 are taken
_LONGEST = 2 << 20  # bytes: 25,000 vectors in full precision


def read_gradients(
    bval: Path | None,
    bvec: Path | None,
    affine: npt.ArrayLike,
    volumes: int,
    b0_threshold: float = B0_LIMIT,
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
    b0_threshold : float
        b-values up to this, where it is above 50 s/mm², are taken as 0.

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
    if b0_threshold > B0_LIMIT:
        bvals[bvals <= b0_threshold] = 0.0
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
            f"{name_volumes(np.flatnonzero(~np.isfinite(vectors).all(axis=1)))}; correct them."
        )
    _require_unit_length(bval, bvec, bvals, vectors)
    return GradientTable(bvals, _unit(fsl_to_world(_unit(vectors), affine)))


def write_gradients(bval: Path, bvec: Path, table: GradientTable, affine: npt.ArrayLike) -> None:
    """Write a gradient table in FSL's convention for an image of `affine` (4, 4).

    Raises
    ------
    WorkError
        A file could not be written.
    """
    vectors = world_to_fsl(table.directions, affine)
    with replacing(bval) as temporary:
        np.savetxt(temporary, table.bvals[None], fmt="%g")
    with replacing(bvec) as temporary:
        np.savetxt(temporary, vectors.T.round(6) + 0.0, fmt="%.6f")  # + 0.0: no "-0"


def fsl_to_world(vectors: Float64, affine: npt.ArrayLike) -> Float64:
    """Turn b-vectors (C, 3) of FSL's convention into the world frame of `affine`.

    FSL's b-vectors are given in image axes, with x flipped where the affine's determinant is
    positive ("radiological" storage is its reference).
    """
    return np.asarray(vectors @ _fsl_axes(affine).T)


def world_to_fsl(directions: Float64, affine: npt.ArrayLike) -> Float64:
    """Undo `fsl_to_world`: world directions (C, 3) as b-vectors for an image of `affine`."""
    return _unit(np.asarray(np.linalg.solve(_fsl_axes(affine), directions.T).T))


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
        _require_short(path)
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


def _require_short(path: Path) -> None:
    size = path.stat().st_size
    if size > _LONGEST:
        raise GradientError(
            f"{path} holds {size:,} bytes, which is no table of gradients; expected up to "
            f"{_LONGEST:,}, a number or three for each volume: name the right file."
        )


def _read_bvals(path: Path, volumes: int) -> Float64:
    bvals = np.array([b for row in _read_rows(path) for b in row], dtype=np.float64)
    if len(bvals) != volumes:
        raise _other_count(path, counted(len(bvals), "b-value"), volumes)
    wrong = np.flatnonzero(~(bvals >= 0) | np.isinf(bvals))
    if len(wrong):
        raise GradientError(
            f"{path} has b-values that are negative or not finite: "
            f"{name_volumes(wrong, [f'{b:g}' for b in bvals[wrong]])}; expected s/mm² from 0 up: "
            "correct them."
        )
    if bvals.max() > _MOST_B:
        raise GradientError(
            f"{path} has b-values up to {bvals.max():g}; expected s/mm², up to {_MOST_B:,.0f}: "
            "divide them by a million if they are in s/m², or correct them."
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
        found = f"rows of unequal lengths ({listed([len(row) for row in rows], NAMED)})"
    elif len(rows) == 3 or lengths == {3}:
        found = f"{max(lengths) if len(rows) == 3 else len(rows)} b-vectors"
    else:
        found = f"{len(rows)} rows of {max(lengths, default=0)} numbers"
    raise _other_count(path, found, volumes)


def _other_count(path: Path, found: str, volumes: int) -> GradientError:
    return GradientError(
        f"{path} has {found}, but its scan has {counted(volumes, 'volume')}; expected one for "
        "each: check that the file belongs to the scan."
    )


def _require_unit_length(bval: Path, bvec: Path, bvals: Float64, vectors: Float64) -> None:
    weighted = bvals > B0_LIMIT
    with np.errstate(over="ignore"):  # a length beyond all numbers is not 1 either
        lengths = np.linalg.norm(vectors, axis=1)
    is_unit = np.abs(lengths - 1) <= _LENGTH_TOLERANCE
    is_zero = lengths < _LENGTH_TOLERANCE
    if (is_unit | ~weighted).all():
        return
    if _lengths_scale_b(bvals[weighted], lengths[weighted]):
        scaled = bvals * lengths**2
        effective = [f"{np.median(scaled[shell]):.0f}" for shell in shells_of(scaled)]
        raise GradientError(
            f"{bvec} has vectors of length {lengths[weighted].min():.2f} to "
            f"{lengths[weighted].max():.2f} where {bval.name} has b={bvals[weighted].max():g} "
            "throughout: their lengths scale b, as GE scanners store several shells, and the "
            f"effective b-values b·|g|² are {listed(effective)}; write "
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
        directed = bvals[weighted & ~is_zero]
        _require_no_low_b(bval, bvec, bvals, trace, directed.min())
        raise GradientError(
            f"{bvec} has zero vectors at b > {B0_LIMIT:.0f}: {name_volumes(np.flatnonzero(trace))}"
            ", which are trace (mean diffusivity) images that the scanner computed; remove them "
            "from the scan and from both gradient files, with `mrconvert -coord 3 "
            f"{_ranges(np.flatnonzero(~trace))} -fslgrad ... -export_grad_fsl ...` for instance."
        )
    wrong = np.flatnonzero(weighted & ~is_unit)
    raise GradientError(
        f"{bvec} has vectors that are not of unit length at b > {B0_LIMIT:.0f}: "
        f"{name_volumes(wrong, [f'length {length:.3g}' for length in lengths[wrong]])}; check "
        "that the file belongs to the scan, and normalise the vectors."
    )


def _require_no_low_b(
    bval: Path, bvec: Path, bvals: Float64, without: Bools, directed: float
) -> None:
    """Refuse volumes `without` directions at b-values far below the others, `directed` and up."""
    low = without & (bvals <= LOW_B) & (2 * bvals < directed)
    if low.any():
        raise GradientError(
            f"{bval} has b={bvals[low].max():g} where {bvec.name} has zero vectors: "
            f"{name_volumes(np.flatnonzero(low))}, which look like b=0, but b-values count as 0 up "
            f"to {B0_LIMIT:.0f} s/mm² only: take those up to {bvals[low].max():g} as 0 with "
            f"--b0-threshold {bvals[low].max():g}, or write 0 for these volumes."
        )


def _lengths_scale_b(bvals: Float64, lengths: Float64) -> bool:
    """Tell whether one nominal b is shared and the longest vector alone is of unit length."""
    one_b = np.ptp(bvals) <= B_TOLERANCE * bvals.max()
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


def _ranges(volumes: Ints) -> str:
    """Write sorted numbers as MRtrix takes them: `0:12,14:25`."""
    runs = np.split(volumes, np.flatnonzero(np.diff(volumes) != 1) + 1)
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}:{run[-1]}" for run in runs)
