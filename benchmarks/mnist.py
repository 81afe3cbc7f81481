"""The paper's experiment on MNIST: one digit is novel, the other nine are normal, ten times.

    QSPACE_ND_DATA=... python benchmarks/mnist.py

Every score of the catalogue, and peers in the same run. What was computed of a digit is kept in
--cache; a killed run resumes there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_section
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import roc_auc_score

from qspace_nd.model import NoveltyModel
from qspace_nd.outputs import replacing
from qspace_nd.scores.catalogue import CATALOGUE, DEFAULT_SCORE
from qspace_nd.scores.families import Cost

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

TRAINING_SHARE = 0.8
LATENT_SCORES = ("latent-bhattacharyya", "latent-density")
"""Dear scores that are cheap where the latents are few."""

AN_AND_CHO = "recon-likelihood-qhat"
LATENTS = 32
PCA_COMPONENTS = 16
KERNEL_IMAGES, KERNEL_COMPONENTS = 3000, 256
PEERS = ("PCA", "kernel PCA")
BEATEN = (AN_AND_CHO, *PEERS)
"""What latent-distance is compared with, digit by digit."""


@dataclass(frozen=True)
class Experiment:
    """One digit is novel.

    Attributes
    ----------
    digit : int
        The novel one.
    train : (n, 1, 28, 28) array
        80 % of the images of the other nine, in random order.
    test : (m, 1, 28, 28) array
        Of the other 20 %, and of the novel digit.
    novel : (m,) array of bool
        Which of `test` are novel.
    few : (k,) array of int
        The rows of `test` that the dear scores are computed on, as many of either class.
    """

    digit: int
    train: Images
    test: Images
    novel: NDArray[np.bool_]
    few: NDArray[np.int64]

    @staticmethod
    def of(digit: int, images: Images, labels: Labels, most: int, few: int) -> Experiment:
        """Split the images at random; test at most `most` of either class, `few` by dear scores."""
        random = np.random.default_rng(digit)
        normal = random.permutation(np.flatnonzero(labels != digit))
        novel = random.permutation(np.flatnonzero(labels == digit))
        trained = round(TRAINING_SHARE * len(normal))
        tested = normal[trained:][:most], novel[:most]
        test = np.concatenate(tested)
        ends = len(tested[0])
        return Experiment(
            digit=digit,
            train=images[normal[:trained]],
            test=images[test],
            novel=np.arange(len(test)) >= ends,
            few=np.concatenate([np.arange(ends)[:few], np.arange(ends, len(test))[:few]]),
        )

    def auc(self, scores: NDArray[Any]) -> float:
        novel = self.novel if len(scores) == len(self.novel) else self.novel[self.few]
        return float(roc_auc_score(novel, scores))


def on_few(name: str) -> bool:
    """Whether a score is computed on a subset of the test images."""
    return CATALOGUE[name].cost is Cost.DEAR and name not in LATENT_SCORES


def principal_components(experiment: Experiment) -> NDArray[Any]:
    """Squared error of the reconstruction by the leading principal components."""
    train, test = (x.reshape(len(x), -1) for x in (experiment.train, experiment.test))
    model = PCA(PCA_COMPONENTS, random_state=0).fit(train)
    error = test - model.inverse_transform(model.transform(test))
    return np.asarray((error**2).sum(axis=1))


def kernel_principal_components(experiment: Experiment) -> NDArray[Any]:
    """Squared error of the reconstruction in the feature space of a Gaussian kernel.

    Hoffmann, "Kernel PCA for novelty detection" (2007): the squared distance of an image from the
    training images' mean, less the squares of its components. The kernel's variance is half the
    median squared distance between training images.
    """
    train, test = (
        x.reshape(len(x), -1).astype(np.float64) for x in (experiment.train, experiment.test)
    )
    train = train[:KERNEL_IMAGES]
    gamma = 1.0 / np.median(_squared_distances(train[:500], train))
    model = KernelPCA(
        KERNEL_COMPONENTS, kernel="rbf", gamma=gamma, eigen_solver="randomized", random_state=0
    ).fit(train)
    own, cross = (np.exp(-gamma * _squared_distances(x, train)) for x in (train, test))
    centred = 1.0 - 2.0 * cross.mean(axis=1) + own.mean()
    return np.asarray(centred - (model.transform(test) ** 2).sum(axis=1))


def _squared_distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    squares = (a**2).sum(axis=1)[:, None] - 2.0 * a @ b.T + (b**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0))


def measure(
    experiment: Experiment, settings: Mapping[str, Any], log: Callable[[str], None]
) -> dict[str, Any]:
    """AUC of every score and peer, and what training showed."""
    start = time.process_time()
    model = NoveltyModel(**settings).fit(experiment.train)
    history = model.history_
    facts = {
        "steps": history.steps,
        "alive": history.latents_alive,
        "training": time.process_time() - start,
    }
    log(f"fitted: {facts}")
    aucs: dict[str, float] = {}
    seconds: dict[str, float] = {}

    def timed(name: str, score: Callable[[], NDArray[Any]]) -> None:
        begun = time.process_time()
        aucs[name] = experiment.auc(score())
        seconds[name] = time.process_time() - begun
        log(f"{name}: {aucs[name]:.3f} ({seconds[name]:.1f} s)")

    for name in CATALOGUE:
        test = experiment.test[experiment.few] if on_few(name) else experiment.test
        timed(name, lambda name=name, test=test: model.novelty(test, name))
    timed("PCA", lambda: principal_components(experiment))
    timed("kernel PCA", lambda: kernel_principal_components(experiment))
    return {"aucs": aucs, "seconds": seconds, "facts": facts}


def mnist() -> tuple[Images, Labels]:
    """MNIST's 60,000 training images in [0, 1] and their digits.

    The other 10,000 images are what settings were chosen on; nothing here sees them.
    """
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        raise SystemExit("QSPACE_ND_DATA names no folder with mnist/.")
    folder = Path(named) / "mnist"
    images = np.frombuffer(_unpacked(folder / "train-images-idx3-ubyte.gz"), np.uint8, offset=16)
    labels = np.frombuffer(_unpacked(folder / "train-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    return images.reshape(-1, 1, 28, 28) / np.float32(255), labels


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--most", type=int, default=1000, help="test images of either class")
    parser.add_argument("--few", type=int, default=50, help="of which the dear scores see so many")
    parser.add_argument("--paper", action="store_true", help="train as the paper does: hours")
    parser.add_argument("--cache", type=Path, default=Path(__file__).with_name(".cache") / "mnist")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"validation": 0.05, "latents": LATENTS, "device": "cpu"}
    if arguments.paper:
        settings["preset"] = "paper"
    images, labels = mnist()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    measured: dict[int, dict[str, Any]] = {}
    for digit in arguments.digits:
        kept = "paper" if arguments.paper else "default"
        path = arguments.cache / f"{digit}-{kept}-{arguments.most}-{arguments.few}.json"
        if not path.exists():
            experiment = Experiment.of(digit, images, labels, arguments.most, arguments.few)
            result = measure(
                experiment, settings, lambda line, d=digit: print(f"{d}, {line}", flush=True)
            )
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(result))
        measured[digit] = json.loads(path.read_text())
    text = report(measured, arguments.most, arguments.few, arguments.paper)
    if len(measured) == 10:
        section = "mnist-paper" if arguments.paper else "mnist"
        write_section(Path(__file__).with_name("RESULTS.md"), section, text)
    print(text)


def report(measured: Mapping[int, Mapping[str, Any]], most: int, few: int, paper: bool) -> str:
    digits = sorted(measured)
    aucs = {
        name: [measured[digit]["aucs"][name] for digit in digits]
        for name in measured[digits[0]]["aucs"]
    }
    ours = np.array(aucs[DEFAULT_SCORE])
    ahead = []
    for name in BEATEN:
        behind = [digit for digit, a, b in zip(digits, ours, aucs[name], strict=True) if a <= b]
        but = f", not {' and '.join(map(str, behind))}" if behind else ""
        ahead.append(
            f"{name} on {len(digits) - len(behind)} of {len(digits)} digits{but} "
            f"(mean {ours.mean():.3f} to {np.mean(aucs[name]):.3f})"
        )
    facts = [measured[digit]["facts"] for digit in digits]
    total = sum(sum(measured[digit]["seconds"].values()) for digit in digits)
    total += sum(fact["training"] for fact in facts)
    dear = ", ".join(f"`{name}`" for name in CATALOGUE if on_few(name))
    first = [DEFAULT_SCORE, *PEERS, AN_AND_CHO, "input-distance"]
    rows = [*first, *(name for name in aucs if name not in first)]
    titles = {AN_AND_CHO: f"{AN_AND_CHO} (An & Cho)", "input-distance": "input-distance (pixels)"}
    return "\n".join(
        [
            "## One digit is novel (the paper's experiment on MNIST)",
            "",
            f"`python benchmarks/mnist.py{' --paper' if paper else ''}`",
            "",
            f"AUC by the novel digit. 80 % of the other nine digits' images train "
            f"({facts[0]['steps']:,} steps, {LATENTS} latents); {most:,} images of the other 20 % "
            f"and {most:,} of the novel digit are the test, on which an AUC has a standard error "
            f"of 0.01 at most. Of either class {few} are scored by {dear}: there it is 0.06 at "
            f"most. All training images are the reference. PCA has {PCA_COMPONENTS} components; "
            f"kernel PCA, Gaussian, {KERNEL_COMPONENTS} and {KERNEL_IMAGES:,} training images.",
            "",
            f"`{DEFAULT_SCORE}` is ahead of {'; of '.join(ahead)}.",
            "",
            f"| score | {' | '.join(map(str, digits))} | mean |",
            f"| --- |{' --: |' * (len(digits) + 1)}",
            *(
                f"| {titles.get(name, name)} | "
                + " | ".join(f"{value:.3f}" for value in (*aucs[name], np.mean(aucs[name])))
                + " |"
                for name in rows
            ),
            "",
            f"{total / 60:.0f} processor minutes in all, "
            f"{sum(fact['training'] for fact in facts) / 60:.0f} of them for training.",
        ]
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
