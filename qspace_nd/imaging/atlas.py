"""An atlas: a label image of regions, and what they are called."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.errors import InputError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.layouts.names import require_here, stem
from qspace_nd.system.hashing import hash_of_file

OUTSIDE = "n/a"
"""What a place is called that lies in no region."""

_LUT = re.compile(r"\s*(\d+)\s+(\S+)(\s+\d+){0,4}\s*")  # FreeSurfer's: index, name, colour


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions, each of a number above 0.

    Attributes
    ----------
    path : Path
    labels : (X, Y, Z) array of int
    grid : Grid
    names : mapping of int to str
        Of the regions that have one; others are called by their number.
    digest : str
        Of the two files.
    """

    path: Path
    labels: Ints
    grid: Grid
    names: Mapping[int, str]
    digest: str

    @staticmethod
    def read(path: Path) -> Atlas:
        """Read a label image, and the table beside it that has its name.

        The table is BIDS's (`.tsv`, columns `index` and `name`) or FreeSurfer's (`.txt`: number,
        name, colour).

        Raises
        ------
        InputError
            The image holds no labels, or the table no names of numbers.
        """
        require_here([path])
        values, grid = read_volume(path)
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise InputError(
                f"{path} holds values that are no whole numbers; expected an atlas, with the "
                f"number of a region in each voxel: name another image with --atlas."
            )
        if not 0 <= values.min() <= values.max() < 2**24 or not values.any():
            raise InputError(
                f"{path} holds numbers from {values.min():.4g} to {values.max():.4g}; expected an "
                f"atlas, 0 outside and regions from 1 on: name another image with --atlas."
            )
        tables = [path.with_name(stem(path) + ending) for ending in (".tsv", ".txt")]
        table = next((one for one in tables if one.is_file()), None)
        files = [path] if table is None else [path, table]
        digest = "".join(hash_of_file(one)[:16] for one in files)
        return Atlas(path, values.astype(np.intp), grid, _names(table), digest)

    def at(self, points: Float32 | Float64) -> Ints:
        """The number of the region that holds each of the points (n, 3), mm: (n,); 0 for none."""
        indices = np.rint(apply_affine(np.linalg.inv(self.grid.affine), points)).astype(np.intp)
        inside = ((indices >= 0) & (indices < self.labels.shape)).all(axis=1)
        found = np.zeros(len(points), np.intp)
        found[inside] = self.labels[tuple(indices[inside].T)]
        return found

    def called(self, number: int) -> str:
        """What the region of a number is called."""
        return self.names.get(number, str(number)) if number else OUTSIDE


def _names(table: Path | None) -> dict[int, str]:
    if table is None:
        return {}
    try:
        text = table.read_text("utf-8-sig")
        names = _of_bids(text) if table.suffix == ".tsv" else _of_freesurfer(text)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{table} is no table of an atlas ({error}); expected the columns index and name, "
            f"divided by tabs, or FreeSurfer's lines of number, name and colour: correct it."
        ) from error
    if not names:
        raise InputError(
            f"{table} names no region; expected a line for each, with its number: correct it."
        )
    return names


def _of_bids(text: str) -> dict[int, str]:
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {int(row["index"]): row["name"].strip() for row in rows}


def _of_freesurfer(text: str) -> dict[int, str]:
    lines = (_LUT.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    return {int(line[1]): line[2] for line in lines if line}
