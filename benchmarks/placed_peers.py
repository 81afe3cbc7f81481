"""Methods that know the place: ours, and peers by the same registration."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from cohorts import Cohort, Rows, Scan, Values, arrays, digest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from peers import (
    CHANNELS,
    DEFAULT_CHANNELS,
    HARMONICS,
    NETWORK,
    Fitted,
    Scores,
    resampled_means,
)

from qspace_nd.arrays import Field
from qspace_nd.diffusion import changes, tensor
from qspace_nd.diffusion.tensor import tissue_features
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.registration import alignment, images, places, template
from qspace_nd.registration.images import Images, images_of, shown_of
from qspace_nd.registration.places import Registration, register
from qspace_nd.registration.template import Template, build_template
from qspace_nd.scores import base, catalogue, directed, norms, views
from qspace_nd.scores.norms import Lattice
from qspace_nd.scores.views import Located

REGISTRATION = (tensor, alignment, images, places, template)
"""What places depend on."""

PLACED = (*NETWORK, *HARMONICS, *REGISTRATION, changes, base, catalogue, directed, norms, views)
"""What our scores that know the place depend on."""

UNDIRECTED = ("latent-distance", "placed-distance", "latent-placed-distance")
DIRECTED = (
    "directed-distance",
    "latent-directed-distance",
    "latent-placed-directed-distance",
)

SIGNS = np.array([1.0, 1.0, -1.0])
"""How log b=0, log mean diffusivity and FA change in demyelinated tissue."""


def located(cohort: Cohort, scan: Scan) -> Located:
    """Where a scan's voxels lie in the template of the cohort's reference."""

    def find() -> Located:
        folder = cohort.kept(*REGISTRATION)
        path = folder and folder / "points" / f"{scan.name}-{scan.kind}.npz"
        found = arrays(path, lambda: {"points": _registration(cohort, scan).at(_world(scan))})
        features = torch.from_numpy(_features(cohort, scan))
        return Located(torch.from_numpy(found["points"]), features)

    return cohort.once(("located", scan.name, scan.kind), find)


def _registration(cohort: Cohort, scan: Scan) -> Registration:
    return register(_images(cohort, scan), _template(cohort))


def _template(cohort: Cohort) -> Template:
    def build() -> dict[str, NDArray[Any]]:
        return build_template([_images(cohort, scan) for scan in cohort.reference]).to_arrays()

    folder = cohort.kept(*REGISTRATION)
    path = folder and folder / "template.npz"
    return cohort.once("template", lambda: Template.from_arrays(arrays(path, build)))


def _images(cohort: Cohort, scan: Scan) -> Images:
    return images_of(shown_of(_features(cohort, scan)), scan.mask, scan.affine)


def _features(cohort: Cohort, scan: Scan) -> Values:
    return cohort.once(
        ("features", scan.name, scan.kind), lambda: tissue_features(scan.signal, cohort.table)
    )


def _world(scan: Scan) -> NDArray[np.float64]:
    return np.asarray(apply_affine(scan.affine, np.argwhere(scan.mask)))


def place_all(cohort: Cohort, scans: Sequence[Scan]) -> None:
    """Find where the voxels of scans lie, by as many threads as the cohort has jobs."""
    _template(cohort)
    with ThreadPoolExecutor(cohort.jobs) as pool:
        list(pool.map(partial(located, cohort), scans))


def placed_model(cohort: Cohort, **settings: Any) -> NoveltyModel:
    """The model of a cohort's reference, as `fit` makes it, with places."""

    def fit() -> NoveltyModel:
        def healthy(scan: Scan) -> Healthy:
            where = located(cohort, scan)
            x = CHANNELS[DEFAULT_CHANNELS](cohort, scan)
            return Healthy(scan.name, x, where.points.numpy(), where.features.numpy())

        parts = [healthy(scan) for scan in cohort.reference]
        acquisition = Acquisition(resampled_means(cohort), cohort.table, (), resampled=True)
        space = _template(cohort).to_arrays()
        model = NoveltyModel(device="cpu", **settings)
        return model.fit_parts(parts, acquisition=acquisition, template=space)

    def find() -> NoveltyModel:
        folder = cohort.kept(*NETWORK, *HARMONICS, *REGISTRATION)
        if folder is None:
            return fit()
        path = folder / f"model-{digest(settings)}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fit().save(path)
        return NoveltyModel.load(path, "cpu")

    return cohort.once(("placed model", tuple(sorted(settings.items()))), find)


def ours(
    cohort: Cohort, *, names: tuple[str, ...], toward: str | None = None, **settings: Any
) -> Fitted:
    """Scores of the catalogue."""
    model = placed_model(cohort, **settings)

    def score(scan: Scan, rows: Rows) -> Scores:
        x = CHANNELS[DEFAULT_CHANNELS](cohort, scan)
        found = model.novelties(x, names, located=located(cohort, scan), toward=toward)
        return np.stack([found[name] for name in names], axis=1)[rows]

    return Fitted(score, {"alive": model.history_.latents_alive})


def deviations(cohort: Cohort, leave_out: str | None = None) -> Fitted:
    """z of log b=0, log MD and FA at the place; and the Mahalanobis distance of the three.

    By the mean and the covariance of the controls' voxels within the Gaussian around the place that
    our scores know it by; nobody's background is taken off. First signed as demyelination changes
    them, then of either sign, then the distance (Tremblay et al., MVComp, Imaging Neuroscience 2:1,
    2024, with neighbours for the voxels of a common space). One control may be left out.
    """
    points, values = [], []
    for scan in cohort.reference:
        if scan.name == leave_out:
            continue
        where = located(cohort, scan)
        points.append(where.points.numpy())
        values.append(where.features.numpy().astype(np.float64))
    lattice = Lattice.around(points)
    first, second = np.triu_indices(3)

    def moments(some: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([some, some[:, first] * some[:, second]], axis=1)

    near = lattice.mean_near(
        [(p, moments(v)) for p, v in zip(points, values, strict=True)], norms.NEAR
    )
    fields: Field = lattice.field(near)

    def build(scan: Scan) -> Scores:
        where = located(cohort, scan)
        found = fields.at(where.points.numpy()).astype(np.float64)
        mean = found[:, :3]
        covariance = np.empty((len(mean), 3, 3))
        covariance[:, first, second] = found[:, 3:] - mean[:, first] * mean[:, second]
        covariance[:, second, first] = covariance[:, first, second]
        covariance += 1e-4 * np.eye(3)
        rest = where.features.numpy() - mean
        z = rest / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        distance = np.einsum("ni,ni->n", rest, np.linalg.solve(covariance, rest[..., None])[..., 0])
        return np.concatenate([z * SIGNS, abs(z), np.sqrt(distance)[:, None]], axis=1)

    def score(scan: Scan, rows: Rows) -> Scores:
        key = ("deviations", leave_out, scan.name, scan.kind)
        return cohort.once(key, partial(build, scan))[rows]

    return Fitted(score)
