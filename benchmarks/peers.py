"""The methods that are compared: each learns from a cohort and then scores rows of scans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from cohorts import MAIN_KIND, OTHER_KINDS, Cohort, Rows, Scan, Values
from numpy.typing import NDArray

from qspace_nd import gaussian
from qspace_nd.diffusion import alteration, harmonics, invariants, products, resampling
from qspace_nd.diffusion.invariants import RotationInvariants
from qspace_nd.diffusion.normalise import channel_means
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model import fitting, rows, tuning
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.model.tuning import Assessment
from qspace_nd.network import objective, recipes, training, vae
from qspace_nd.network.recipes import PRESETS
from qspace_nd.searching.nearest import NearestNeighbours

Scores = NDArray[np.floating[Any]]
Volume = NDArray[np.floating[Any]]
Scorer = Callable[[Scan, Rows], Scores]
"""(scan, rows) -> (rows, names): higher is more novel."""

NEIGHBOURS = (PRESETS["default"].neighbours, 1, 5)
"""How many neighbours distances are the mean to: the default's number first."""

NEAREST = "nearest"
"""What is said of a distance to one neighbour."""

EVERY = 1000  # more cohorts than there are

AS_SCANNED, DEFAULT_CHANNELS = "as scanned", "resampled"
"""What peers are given, and what `fit` gives the network."""

NETWORK = (gaussian, vae, rows, fitting, objective, recipes, training)
"""What a trained network depends on."""

TUNING = (alteration, tuning)
"""What the choice of settings depends on."""

HARMONICS = (harmonics, products, resampling, invariants)
"""What a fit in spherical harmonics depends on."""


@dataclass(frozen=True)
class Fitted:
    """A method that has learnt: its scorer, and what there is to say of it."""

    score: Scorer
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A method, or several that share their work.

    Attributes
    ----------
    names : tuple of str
        What each column of the scores is called.
    fit : callable
        Cohort -> Fitted.
    others : int
        The voxels outside lesions that are scored of each scan.
    cohorts, maps : int
        How many cohorts are scored, and whole maps of how many of them; the first of a stage.
    control_maps : bool
        Whether whole maps are scored of left-out controls too.
    controls : bool
        Whether left-out controls are scored.
    kinds : sequence of str
        The other kinds of lesion whose patients are scored.
    sources : tuple of modules
        What the scores depend on, beside `fit` and the cohort.
    """

    names: tuple[str, ...]
    fit: Callable[[Cohort], Fitted]
    others: int = 6000
    cohorts: int = EVERY
    maps: int = 0
    control_maps: bool = True
    controls: bool = True
    kinds: Sequence[str] = OTHER_KINDS
    sources: tuple[ModuleType, ...] = ()


def by_neighbours(name: str) -> tuple[str, ...]:
    """Name the mean distance to each number of neighbours: the default's goes without saying."""
    return (name, *(f"{name}, {NEAREST if k == 1 else f'mean of {k}'}" for k in NEIGHBOURS[1:]))


# --- the model -------------------------------------------------------------------------------


def fitted(cohort: Cohort, channels: str = DEFAULT_CHANNELS, **settings: Any) -> NoveltyModel:
    """Return the model of a cohort's reference, fitted once for all that ask for it."""

    def fit() -> NoveltyModel:
        model = NoveltyModel(device="cpu", **settings)
        return model.fit(_reference(cohort, channels), groups=cohort.groups)

    return cohort.once(("model", channels, tuple(sorted(settings.items()))), fit)


def latent_distance(cohort: Cohort, *, channels: str = DEFAULT_CHANNELS, **settings: Any) -> Fitted:
    """Mean distance to the nearest neighbours in latent space, for each number of them."""
    model = fitted(cohort, channels, **settings)

    def score(scan: Scan, rows: Rows) -> Scores:
        x = CHANNELS[channels](cohort, scan)[rows]
        return _means(model.reference_.nearest("q_bar"), model.encode(x).mean)

    history = model.history_
    facts = {
        "latents": model.network_.latents,
        "alive": history.latents_alive,
        "steps": history.steps,
        "validation loss": round(history.validation_loss, 3),
        "late fall": history.late_fall,
    }
    return Fitted(score, facts)


def tuned(cohort: Cohort, **settings: Any) -> Fitted:
    """Latent distance as `latent_distance`, and how well `fit --tune` would think of it."""
    model = fitted(cohort, **settings)
    of = {str(number): scan for number, scan in enumerate(cohort.reference)}
    means = channel_means([_resampling(cohort, s)(s.signal) for s in of.values()])
    people = [Healthy(name, _resampled(cohort, scan)) for name, scan in of.items()]
    acquisition = Acquisition(means, cohort.table, (), resampled=True)
    assessment = Assessment.of(model, people, acquisition)
    method = latent_distance(cohort, **settings)
    altered = [assessment.auc(model, neighbours) for neighbours in NEIGHBOURS]
    return Fitted(method.score, {**method.facts, "altered": altered})


def catalogue_score(cohort: Cohort, *, name: str, **settings: Any) -> Fitted:
    """One score of the catalogue."""
    model = fitted(cohort, **settings)

    def score(scan: Scan, rows: Rows) -> Scores:
        x = CHANNELS[DEFAULT_CHANNELS](cohort, scan)[rows]
        return model.novelty(x, name)[:, None]

    return Fitted(score)


def _as_scanned(cohort: Cohort, scan: Scan) -> Values:
    return scan.x


def _unweighted(cohort: Cohort, scan: Scan) -> Values:
    return scan.x[:, cohort.b0]


def _weighted(cohort: Cohort, scan: Scan) -> Values:
    return np.delete(scan.x, cohort.b0, axis=1)


def _resampled(cohort: Cohort, scan: Scan) -> Values:
    """The signal as `fit` sees it: its fit in spherical harmonics."""
    return _transformed(cohort, scan, _resampling(cohort, scan))


def _resampling(cohort: Cohort, scan: Scan) -> Resampling:
    return Resampling(cohort.table, cohort.table, scan.name)


def _invariant(cohort: Cohort, scan: Scan) -> Values:
    """The features of `fit --features rotation-invariant`."""
    return _transformed(cohort, scan, RotationInvariants(cohort.table, cohort.table, scan.name))


def _transformed(cohort: Cohort, scan: Scan, transform: Resampling | RotationInvariants) -> Values:
    kind = type(transform).__name__

    def scales() -> Values:
        if isinstance(transform, Resampling):
            return resampled_means(cohort)
        return transform.scales(channel_means([transform(one.signal) for one in cohort.reference]))

    return cohort.once(
        (kind, scan.name, scan.kind),
        lambda: transform(scan.signal) / cohort.once((kind, "scales"), scales),
    )


def resampled_means(cohort: Cohort) -> Values:
    """The channels' means over the reference after their fit in spherical harmonics: (C,)."""
    return cohort.once(
        "resampled means",
        lambda: channel_means([_resampling(cohort, s)(s.signal) for s in cohort.reference]),
    )


CHANNELS: Mapping[str, Callable[[Cohort, Scan], Values]] = {
    AS_SCANNED: _as_scanned,
    "b=0": _unweighted,
    "weighted": _weighted,
    DEFAULT_CHANNELS: _resampled,
    "rotation-invariant": _invariant,
}
"""What a method may be given: (cohort, scan) -> (n, channels)."""


def _reference(cohort: Cohort, channels: str) -> Values:
    if channels == AS_SCANNED:
        return cohort.reference_rows()
    return np.concatenate([CHANNELS[channels](cohort, scan) for scan in cohort.reference])


def _some(x: Values, most: int) -> Values:
    """`most` of voxels at random, in order."""
    if most >= len(x):
        return x
    return x[np.sort(np.random.default_rng(0).choice(len(x), most, replace=False))]


def _means(neighbours: NearestNeighbours, queries: NDArray[np.float32]) -> Scores:
    distances = neighbours.distances(queries, max(NEIGHBOURS))
    return np.stack([distances[:, :k].mean(axis=1) for k in NEIGHBOURS], axis=1)


# --- without learning ------------------------------------------------------------------------


def input_distance(cohort: Cohort, *, channels: str = AS_SCANNED) -> Fitted:
    """Mean distance to the nearest neighbours among the signals, for each number of them."""
    neighbours = NearestNeighbours(_reference(cohort, channels))

    def score(scan: Scan, rows: Rows) -> Scores:
        return _means(neighbours, CHANNELS[channels](cohort, scan)[rows])

    return Fitted(score)


DISTANCES = {"latent-distance": latent_distance, "input-distance": input_distance}


def turned(cohort: Cohort, *, distance: str, degrees: float, **settings: Any) -> Fitted:
    """One of the two distances on the same cohort with heads that are turned in the scanner."""
    other = cohort.turned(degrees)
    method = DISTANCES[distance](other, **settings)
    return Fitted(lambda scan, rows: method.score(other.like(scan), rows), method.facts)


def mahalanobis(cohort: Cohort) -> Fitted:
    """Mahalanobis distance to the reference's mean."""
    x = cohort.reference_rows().astype(np.float64)
    mean, whiten = x.mean(axis=0), np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T

    def score(scan: Scan, rows: Rows) -> Scores:
        return np.linalg.norm((scan.x[rows] - mean) @ whiten, axis=1, keepdims=True)

    return Fitted(score)


# --- maps of the tensor ------------------------------------------------------------------------

SIGNS = np.array([1.0, 1.0, -1.0])
"""How b=0, mean diffusivity and FA change in demyelinated tissue."""

LEAST_CONTROLS = 3  # with brain at a place, for their mean and standard deviation to count there


def tensor(cohort: Cohort) -> Fitted:
    """b=0, mean diffusivity and FA themselves, signed as demyelination changes them."""

    def score(scan: Scan, rows: Rows) -> Scores:
        return _tensor_maps(cohort, scan)[rows] * SIGNS

    return Fitted(score)


def z_maps(cohort: Cohort) -> Fitted:
    """How many standard deviations of the controls each map is from their mean, in a voxel.

    Signed as demyelination changes the map, and then of either sign. A voxel with too few controls
    is 0, a standard deviation at least the 5th percentile of that over the brain.
    """
    volumes = [scan.volume(_tensor_maps(cohort, scan)) for scan in cohort.reference]
    mean, std = _moments(volumes, [scan.mask for scan in cohort.reference])

    def score(scan: Scan, rows: Rows) -> Scores:
        z = _deviations(_tensor_maps(cohort, scan), mean[scan.mask], std[scan.mask])[rows]
        return np.concatenate([z * SIGNS, abs(z)], axis=1)

    return Fitted(score)


def registered_z_maps(cohort: Cohort) -> Fitted:
    """As `z_maps`, with every FA map registered to the controls' mean FA (SyN of DIPY)."""
    references = [scan.volume(_tensor_maps(cohort, scan)) for scan in cohort.reference]
    template = np.mean([volume[..., 2] for volume in references], axis=0)
    warps = [_register(template, volume[..., 2]) for volume in references]
    warped = [_each(warp.transform, volume) for warp, volume in zip(warps, references, strict=True)]
    masks = [
        warp.transform(scan.mask.astype(np.float64)) > 0.5
        for warp, scan in zip(warps, cohort.reference, strict=True)
    ]
    mean, std = _moments(warped, masks)

    def build(scan: Scan) -> Scores:
        maps = _tensor_maps(cohort, scan)
        back = _register(template, scan.volume(maps)[..., 2]).transform_inverse
        z = _deviations(maps, _each(back, mean)[scan.mask], _each(back, std)[scan.mask])
        return np.concatenate([z * SIGNS, abs(z)], axis=1)

    def score(scan: Scan, rows: Rows) -> Scores:
        return cohort.once(("registered", scan.name, scan.kind), partial(build, scan))[rows]

    return Fitted(score)


def _tensor_maps(cohort: Cohort, scan: Scan) -> Scores:
    """b=0, mean diffusivity and FA of a scan's voxels: (n, 3)."""
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    def fit() -> Scores:
        table = gradient_table(cohort.table.bvals, bvecs=cohort.table.directions, b0_threshold=50)
        found = TensorModel(table, fit_method="WLS").fit(scan.signal)
        b0 = scan.signal[:, cohort.b0].mean(axis=1)
        return np.stack([b0, found.md, found.fa], axis=1).astype(np.float64)

    return cohort.once(("tensor", scan.name, scan.kind), fit)


def _moments(volumes: list[Volume], masks: list[NDArray[np.bool_]]) -> tuple[Volume, Volume]:
    """Mean and standard deviation (X, Y, Z, 3) over the controls; 0 where there are too few."""
    values, inside = np.stack(volumes), np.stack(masks)[..., None]
    count = inside.sum(axis=0)
    mean = (values * inside).sum(axis=0) / np.maximum(count, 1)
    squares = (np.square(values - mean) * inside).sum(axis=0)
    std = np.sqrt(squares / np.maximum(count - 1, 1))
    known = count[..., 0] >= LEAST_CONTROLS
    std = np.maximum(std, np.percentile(std[known], 5, axis=0))
    return mean, np.where(known[..., None], std, 0.0)


def _deviations(maps: Scores, mean: Scores, std: Scores) -> Scores:
    return np.divide(maps - mean, std, out=np.zeros_like(maps), where=std > 0)


def _register(template: Volume, moving: Volume) -> Any:
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    logging.getLogger("dipy").setLevel(logging.WARNING)
    method = SymmetricDiffeomorphicRegistration(
        CCMetric(3, sigma_diff=1.5, radius=2), level_iters=[20, 15, 10]
    )
    return method.optimize(template.astype(np.float64), moving.astype(np.float64))


def _each(transform: Callable[[Volume], Volume], volume: Volume) -> Volume:
    return np.stack([transform(volume[..., k]) for k in range(volume.shape[-1])], axis=-1)


# --- PyOD --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detector:
    """A detector of PyOD: its module and class, its settings, the reference voxels it learns."""

    module: str
    name: str
    voxels: int
    settings: Mapping[str, Any] = field(default_factory=dict)


def pyod(cohort: Cohort, *, detector: Detector, channels: str = AS_SCANNED) -> Fitted:
    import torch

    build = getattr(import_module(f"pyod.models.{detector.module}"), detector.name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(**detector.settings).fit(_some(_reference(cohort, channels), detector.voxels))

    def score(scan: Scan, rows: Rows) -> Scores:
        x = CHANNELS[channels](cohort, scan)[rows]
        return np.asarray(model.decision_function(x))[:, None]

    return Fitted(score)


# --- supervised --------------------------------------------------------------------------------

CLASSIFIER_OTHERS = 20_000  # voxels outside lesions of each patient that the classifier learns from


def supervised(cohort: Cohort, *, trees: int = 200, channels: str = AS_SCANNED) -> Fitted:
    """Gradient boosting that learnt the lesions, of the same kind, of all other patients."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def train(kind: str, without: str) -> HistGradientBoostingClassifier:
        x, y = [], []
        for patient in cohort.patients(kind):
            if patient.name == without:
                continue
            others = np.flatnonzero(~patient.labels)
            chosen = np.random.default_rng(0).permutation(others)[:CLASSIFIER_OTHERS]
            rows = np.concatenate([np.flatnonzero(patient.labels), chosen])
            x.append(CHANNELS[channels](cohort, patient)[rows])
            y.append(patient.labels[rows])
        model = HistGradientBoostingClassifier(
            max_iter=trees, learning_rate=0.05, l2_regularization=1.0, random_state=0
        )
        return model.fit(np.concatenate(x), np.concatenate(y))

    def score(scan: Scan, rows: Rows) -> Scores:
        kind = MAIN_KIND if scan.kind == "healthy" else scan.kind
        without = "" if scan.kind == "healthy" else scan.name
        model = cohort.once(("classifier", channels, kind, without), partial(train, kind, without))
        return model.decision_function(CHANNELS[channels](cohort, scan)[rows])[:, None]

    return Fitted(score)
