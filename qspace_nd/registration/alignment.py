"""The affine between two heads that lie anywhere, by mutual information."""

from __future__ import annotations

import numpy as np

from qspace_nd.arrays import Float64
from qspace_nd.registration.images import Images

_BLURS = (3.0, 1.0)  # nodes, coarse first
_STEPS = (4, 2)  # nodes between those that are compared
_ITERATIONS = (100, 50)


def align(images: Images, target: Images) -> Float64:
    """Find the affine (4, 4) from the world of `images` to that of `target`.

    From the brains' middles on: first a rigid motion, then an affine one, by the mutual information
    of what is registered of both. What the scan did not cover counts for nothing.
    """
    from dipy.align.imaffine import (
        AffineRegistration,
        MutualInformationMetric,
        transform_centers_of_mass,
    )
    from dipy.align.transforms import AffineTransform3D, RigidTransform3D

    search = AffineRegistration(
        metric=MutualInformationMetric(nbins=32),
        level_iters=list(_ITERATIONS),
        sigmas=list(_BLURS),
        factors=list(_STEPS),
        verbosity=0,
    )
    affine = transform_centers_of_mass(
        images.mask.astype(float), images.affine, target.mask.astype(float), target.affine
    ).affine
    for motion in (RigidTransform3D(), AffineTransform3D()):
        affine = search.optimize(
            images.registered,
            target.registered,
            motion,
            None,
            static_grid2world=images.affine,
            moving_grid2world=target.affine,
            starting_affine=affine,
        ).affine
    return np.asarray(affine)
