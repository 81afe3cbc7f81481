"""Measure how well novelty scores and their peers find simulated lesions; see README.md here."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: one core, so that times compare

import peers
import torch
from accuracy_figure import draw
from accuracy_tables import detection, markdown
from cohorts import (
    DEVELOPMENT_SEEDS,
    FINAL_SEEDS,
    LEAST_LESION_VOXELS,
    Cohort,
    Design,
    real_lesion_masks,
)
from peers import (
    AS_SCANNED,
    DEFAULT_CHANNELS,
    EVERY,
    HARMONICS,
    NETWORK,
    TUNING,
    Detector,
    Fitted,
    Peer,
    by_neighbours,
)
from results import write_section
from scoring import Log, Scored, score_cohort
from summary import Results, smoothed

from qspace_nd.model.tuning import CHOICES
from qspace_nd.scores import base, catalogue, closest, density, nearest, reconstruction, views
from qspace_nd.scores.base import Cost
from qspace_nd.scores.catalogue import CATALOGUE, PAPER

HERE = Path(__file__).parent

Fit = Callable[[Cohort], Fitted]

STAGES = {"development": DEVELOPMENT_SEEDS, "final": FINAL_SEEDS}

SCORES = {
    "none": (),
    "cheap": tuple(name for name in PAPER if CATALOGUE[name].cost is not Cost.DEAR),
    "all": PAPER,
}
"""Which scores of the catalogue are measured, by the option's value."""

DEAR_OTHERS = 1000
"""Voxels outside lesions of each patient that get the dear scores."""

TURN = 20.0
"""Degrees that heads are turned by at most, where they are."""

NEXT_BEST = ("KNN", "GMM")
"""PyOD's detectors that are given resampled signals too: the best ones of the development."""

MORE_LATENTS = 24
"""More than `fit --tune` tries."""

NETWORK_SEEDS = (1, 2)
"""Seeds of networks beside that of the default, 0."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    sizes : tuple of Design
        Of the cohorts, but for their seeds.
    others : int
        The voxels outside lesions of each scan that are scored.
    voxels : int
        The reference's voxels that dear detectors of PyOD learn from.
    settings : dict
        Of the model, beside its defaults.
    epochs : int
        Of PyOD's networks.
    real : bool
        Whether lesions have the shapes of real ones; drawn ones else.
    """

    sizes: tuple[dict[str, Any], ...]
    others: int
    voxels: int
    settings: dict[str, Any]
    epochs: int
    real: bool


FULL = Scale(
    sizes=({"voxel_size": 3.0}, {"voxel_size": 2.5}, {"voxel_size": 3.0}),
    others=6000,
    voxels=50_000,
    settings={},
    epochs=10,
    real=True,
)

QUICK = Scale(
    sizes=({"voxel_size": 7.0, "reference": 4, "left_out": 2, "patients": 2},),
    others=400,
    voxels=1000,
    settings={"epochs": 2},
    epochs=1,
    real=False,
)


def methods(scale: Scale, scores: Sequence[str]) -> list[Peer]:
    """Everything that is measured, in the order of the tables."""
    groups = (distances, tensor_maps, detectors, classifiers, networks, turned_and_transformed)
    return [
        *(peer for group in (*groups, settings) for peer in group(scale)),
        *(_catalogued(name, scale) for name in scores),
    ]


def _ours(scale: Scale, **settings: Any) -> Fit:
    return partial(peers.latent_distance, **scale.settings, **settings)


def _variant(scale: Scale, names: Sequence[str], fit: Fit, **others: Any) -> Peer:
    """A method that is measured on the patients with lesions of the main kind alone."""
    sources = (*NETWORK, *HARMONICS)
    given = {"sources": sources, "kinds": (), "controls": False, **others}
    return Peer(tuple(names), fit, others=scale.others, **given)


def distances(scale: Scale) -> Iterator[Peer]:
    """The default and the baseline, of signals as they are and resampled."""
    some = partial(Peer, others=scale.others)
    latent, plain = by_neighbours("latent-distance"), by_neighbours("input-distance")
    yield some(latent, _ours(scale), sources=(*NETWORK, *HARMONICS), maps=EVERY)
    yield some(plain, peers.input_distance, maps=1, control_maps=False)
    yield some(
        by_neighbours("input-distance, resampled"),
        partial(peers.input_distance, channels=DEFAULT_CHANNELS),
        sources=HARMONICS,
    )


def tensor_maps(scale: Scale) -> Iterator[Peer]:
    """b=0, mean diffusivity and FA, and how far they are from the controls' mean."""
    some = partial(Peer, others=scale.others)
    yield some(("b=0", "MD", "FA"), peers.tensor)
    yield some(_signed_or_not("z-map"), peers.z_maps)
    yield some(_signed_or_not("registered z-map"), peers.registered_z_maps, maps=EVERY)


def detectors(scale: Scale) -> Iterator[Peer]:
    """Mahalanobis' distance, and PyOD."""
    some = partial(Peer, others=scale.others)
    yield some(("Mahalanobis distance",), peers.mahalanobis)
    for one in pyod(scale):
        yield some((f"PyOD {one.name}",), partial(peers.pyod, detector=one))
    for one in pyod(scale):
        if one.name in NEXT_BEST:
            fit = partial(peers.pyod, detector=one, channels=DEFAULT_CHANNELS)
            yield some((f"PyOD {one.name}, resampled",), fit, sources=HARMONICS)


def classifiers(scale: Scale) -> Iterator[Peer]:
    """What labels can give."""
    some = partial(Peer, others=scale.others, maps=EVERY)
    yield some(("supervised classifier",), peers.supervised)
    yield some(
        ("supervised classifier, resampled",),
        partial(peers.supervised, channels=DEFAULT_CHANNELS),
        sources=HARMONICS,
        controls=False,
    )


def networks(scale: Scale) -> Iterator[Peer]:
    """Networks of other seeds, and of some of the channels."""
    for seed in NETWORK_SEEDS:
        names = by_neighbours(f"latent-distance, network seed {seed}")
        yield _variant(scale, names, _ours(scale, seed=seed))
    for channels, text in (("b=0", "b=0 only"), ("weighted", "weighted only")):
        for name, settings in (("latent-distance", scale.settings), ("input-distance", {})):
            fit = partial(peers.DISTANCES[name], channels=channels, **settings)
            yield _variant(scale, by_neighbours(f"{name}, {text}"), fit)


def turned_and_transformed(scale: Scale) -> Iterator[Peer]:
    """Other channels than those above, and all channels where heads lie turned.

    In the first cohort alone, but for the signals as they were scanned.
    """
    some = partial(
        Peer,
        others=scale.others,
        controls=False,
        kinds=(),
        sources=(*NETWORK, *HARMONICS),
    )
    shown = {"latent-distance": DEFAULT_CHANNELS, "input-distance": AS_SCANNED}
    measured = {("input-distance", DEFAULT_CHANNELS), *shown.items()}
    for distance, settings in (("latent-distance", scale.settings), ("input-distance", {})):
        for channels in (AS_SCANNED, DEFAULT_CHANNELS, "rotation-invariant"):
            name = distance if channels == shown[distance] else f"{distance}, {channels}"
            given = {"channels": channels, **settings}
            if (distance, channels) not in measured:
                yield some(
                    by_neighbours(name),
                    partial(peers.DISTANCES[distance], **given),
                    cohorts=EVERY if channels == AS_SCANNED else 1,
                )
            turned = partial(peers.turned, distance=distance, degrees=TURN, **given)
            yield some(by_neighbours(f"{name}, heads turned"), turned, cohorts=1)


def settings(scale: Scale) -> Iterator[Peer]:
    """The paper's training, and what `fit --tune` chooses among."""
    fit = _ours(scale, preset="paper", channels=AS_SCANNED)
    yield _variant(scale, by_neighbours("latent-distance, preset paper"), fit, cohorts=1)
    for latents in (*CHOICES["latents"], MORE_LATENTS):
        for kl_weight in CHOICES["kl_weight"]:
            yield _variant(
                scale,
                by_neighbours(f"{latents} latents, KL weight {kl_weight:g}"),
                partial(peers.tuned, latents=latents, kl_weight=kl_weight, **scale.settings),
                sources=(*NETWORK, *HARMONICS, *TUNING),
            )


def pyod(scale: Scale) -> tuple[Detector, ...]:
    """PyOD's detectors: with their default settings but for what is named here."""
    network = {"preprocessing": True, "batch_size": 256, "verbose": 0, "random_state": 0}
    return (
        Detector("knn", "KNN", scale.voxels),
        Detector("lof", "LOF", scale.voxels),
        Detector("iforest", "IForest", scale.voxels, {"random_state": 0}),
        Detector("ecod", "ECOD", scale.voxels),
        Detector("gmm", "GMM", scale.voxels, {"n_components": 10, "random_state": 0}),
        Detector("pca", "PCA", scale.voxels, {"random_state": 0}),
        Detector("vae", "VAE", scale.voxels, {**network, "epoch_num": scale.epochs}),
        Detector(
            "deep_svdd",
            "DeepSVDD",
            scale.voxels,
            {**network, "n_features": 46, "epochs": scale.epochs},
        ),
    )


def _signed_or_not(kind: str) -> tuple[str, ...]:
    return tuple(
        f"{kind} of {name}{sign}" for sign in ("", ", either sign") for name in ("b=0", "MD", "FA")
    )


SCORES = (views, catalogue, base, nearest, density, reconstruction, closest)
"""What a score of the catalogue depends on, beside its network."""


def _catalogued(name: str, scale: Scale) -> Peer:
    dear = CATALOGUE[name].cost is Cost.DEAR
    return Peer(
        names=(f"{name} (catalogue)",),
        fit=partial(peers.catalogue_score, name=name, **scale.settings),
        others=min(scale.others, DEAR_OTHERS) if dear else scale.others,
        cohorts=1,
        kinds=(),
        controls=False,
        sources=(*NETWORK, *HARMONICS, *SCORES),
    )


def measure(
    stage: str, scale: Scale, wanted: Sequence[Peer], cache: Path, log: Log
) -> Iterator[Scored]:
    """Score every cohort of a stage."""
    masks = real_lesion_masks() if scale.real else []
    for number, (seed, sizes) in enumerate(zip(STAGES[stage], scale.sizes, strict=False)):
        cohort = Cohort(Design(seed, **sizes), masks)
        log(f"{cohort.design}")
        for patient in cohort.patients():
            if scale.real and patient.labels.sum() < LEAST_LESION_VOXELS:
                raise SystemExit(f"{patient.name} of {cohort.design} has too few lesion voxels.")
        scored = list(score_cohort(cohort, number, wanted, cache, log))
        log(f"{cohort.design.name} is done\n{detection(Results(scored))}")
        yield from scored


def with_smoothing(scored: Sequence[Scored], widths: Sequence[float]) -> list[Scored]:
    """Add every method that has whole maps, smoothed, as further methods."""
    whole = [one for one in scored if one.whole is not None]
    return [
        *scored,
        *(smoothed(one, fwhm, f", smoothed {fwhm:g} mm") for fwhm in widths for one in whole),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--scores", choices=SCORES, default="all", help="of the catalogue")
    parser.add_argument(
        "--smooth",
        type=float,
        nargs="+",
        default=[6.0],
        metavar="MM",
        help="full widths at half maximum; the first is the one of the figure (default: 6)",
    )
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="default: here; the cache with --quick"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    scale = QUICK if options.quick else FULL
    output = options.output or (options.cache if options.quick else HERE)
    wanted = methods(scale, SCORES[options.scores])
    scored = list(measure(options.stage, scale, wanted, options.cache, log))
    log("Scored; smoothing and summing up")
    results = Results(with_smoothing(scored, options.smooth))
    command = shlex.join(["python", "benchmarks/accuracy.py", *sys.argv[1:]])
    text = markdown(results, options.stage, command, options.smooth[0])
    print(text)
    write_section(output / "RESULTS.md", f"accuracy-{options.stage}", text)
    draw(results, output / "accuracy.png", options.smooth[0])
    log("Done")


if __name__ == "__main__":
    main()
