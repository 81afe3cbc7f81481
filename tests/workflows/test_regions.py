from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from nibabel.affines import apply_affine

from qspace_nd.calibration.clusters import find_clusters
from qspace_nd.imaging.atlas import OUTSIDE, Atlas
from qspace_nd.imaging.grid import Grid
from qspace_nd.scores.views import Located
from qspace_nd.workflows.placing import Placement
from qspace_nd.workflows.regions import name_clusters, regions_of

SHAPE, AFFINE = (10, 8, 8), np.diag([-3.0, 3, 3, 1])
MOVED = np.array([40.0, -20, 5])


def test_an_atlas_in_the_template_is_read_where_the_voxels_lie_there() -> None:
    logp = np.zeros(SHAPE)
    logp[1:3, 2:4, 2:5] = 3
    logp[2, 3, 3] = 4
    logp[6:9, 5:7, 5:7] = 2.5
    mask = np.ones(SHAPE, np.bool_)
    found = find_clusters(logp[mask].astype(np.float32), mask, AFFINE, 0.05)
    # The template's space is moved against the scan's; its atlas has another grid.
    fine = np.diag([1.5, 1.5, 1.5, 1])
    fine[:3, 3] = MOVED - np.array([30, 2, 2])
    labels = np.zeros((24, 20, 20), np.intp)
    x = apply_affine(fine, np.argwhere(labels == 0)).reshape(*labels.shape, 3)[..., 0] - MOVED[0]
    labels[x > -10] = 4
    atlas = Atlas(Path("a.nii.gz"), labels, Grid(labels.shape, fine), {4: "near"}, "")
    points = apply_affine(AFFINE, np.argwhere(mask)) + MOVED
    located = Located(torch.from_numpy(points.astype(np.float32)), torch.zeros(len(points), 3))
    grid = Grid(SHAPE, AFFINE)
    scan = SimpleNamespace(grid=grid)
    voxels = cast(Any, SimpleNamespace(mask=mask, scan=scan))
    near, far = name_clusters(found, regions_of(atlas, voxels, Placement(located)), atlas, grid)
    assert (near.name, near.share, near.at_peak) == ("near", 1.0, "near")
    assert (far.name, far.share, far.at_peak) == (OUTSIDE, 0.0, OUTSIDE)
    nowhere = regions_of(atlas, voxels, Placement(wrong="It went wrong."))
    unknown = name_clusters(found, nowhere, atlas, grid)
    assert {region.name for region in unknown} == {OUTSIDE}
