"""The paper's experiment on MNIST: one digit is novel, the other nine are normal, ten times.

    QSPACE_ND_DATA=... python benchmarks/mnist.py

Every score of the catalogue, and peers in the same run. What was computed is kept in --cache; a
killed run resumes there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import write_section
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import roc_auc_score

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.base import Cost
from qspace_nd.scores.catalogue import CATALOGUE, PAPER
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.system.writing import replacing

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

SETTINGS: Mapping[str, Any] = {"latents": 32, "validation": 0.05, "device": "cpu"}
TRAINING_SHARE = 0.8
PCA_COMPONENTS = 16
FEW = 30  # images of either class that the dear scores see
KERNEL_IMAGES, KERNEL_COMPONENTS = 3000, 256
AN_AND_CHO = "recon-likelihood-qhat"
LATENT_SCORES = ("latent-bhattacharyya", "latent-density")
"""Dear scores that are cheap among latents."""


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


PEERS: Mapping[str, Callable[[Experiment], NDArray[Any]]] = {
    "PCA": principal_components,
    "kernel PCA": kernel_principal_components,
}


HEADLINE = (DEFAULT_SCORE, AN_AND_CHO, *PEERS, BASELINE_SCORE)
"""latent-distance, and what it is compared with digit by digit."""


@dataclass
class Measuring:
    """What is measured of one digit, and the file that it is kept in."""

    experiment: Experiment
    settings: Mapping[str, Any]
    path: Path

    def measure(self, name: str) -> dict[str, float]:
        """AUC and processor seconds of a score or a peer."""
        found = self.kept()
        if name not in found:
            score = PEERS.get(name, lambda experiment: self._score(name))
            if name in CATALOGUE:
                self.model  # noqa: B018  fitted before the clock runs
            start = time.process_time()
            auc = self.experiment.auc(score(self.experiment))
            self._keep(name, {"auc": auc, "seconds": time.process_time() - start})
        return dict(self.kept()[name])

    @cached_property
    def model(self) -> NoveltyModel:
        """The model: fitted when it is first asked for."""
        start = time.process_time()
        model = NoveltyModel(**self.settings).fit(self.experiment.train)
        facts = {"steps": model.history_.steps, "alive": model.history_.latents_alive}
        self._keep("training", facts | {"seconds": time.process_time() - start})
        return model

    def kept(self) -> dict[str, Any]:
        """All that was measured."""
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def _score(self, name: str) -> NDArray[np.float32]:
        experiment = self.experiment
        test = experiment.test[experiment.few] if on_few(name) else experiment.test
        return self.model.novelty(test, name)

    def _keep(self, name: str, facts: Mapping[str, Any]) -> None:
        found = self.kept()
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(found | {name: facts}))
        print(f"{self.experiment.digit}, {name}: {json.dumps(facts)}", flush=True)


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
    parser.add_argument("--few", type=int, default=FEW, help="of which the dear scores see so many")
    parser.add_argument(
        "--scores",
        choices=["none", "cheap", "all"],
        default="all",
        help="beside latent-distance and its peers",
    )
    parser.add_argument("--paper", action="store_true", help="train as the paper does: hours")
    parser.add_argument("--cache", type=Path, default=Path(__file__).with_name(".cache") / "mnist")
    arguments = parser.parse_args()
    settings = dict(SETTINGS, preset="paper" if arguments.paper else "default")
    others = [name for name in PAPER if name not in HEADLINE]
    cheap = [name for name in others if not on_few(name)]
    names = [*HEADLINE, *{"none": [], "cheap": cheap, "all": others}[arguments.scores]]
    arguments.cache.mkdir(parents=True, exist_ok=True)
    images, labels = mnist()
    measured = {}
    for digit in arguments.digits:
        experiment = Experiment.of(digit, images, labels, arguments.most, arguments.few)
        path = arguments.cache / f"{digit}-{settings['preset']}-{arguments.most}.json"
        measuring = Measuring(experiment, settings, path)
        aucs = {name: measuring.measure(name)["auc"] for name in names}
        measured[digit] = Measured(aucs, measuring.kept())
    text = report(measured, arguments)
    if len(measured) == 10:
        section = "mnist-paper" if arguments.paper else "mnist"
        write_section(Path(__file__).with_name("RESULTS.md"), section, text)
    print(text)


@dataclass(frozen=True)
class Measured:
    """AUC by score or peer, and everything that was kept of a digit."""

    aucs: Mapping[str, float]
    kept: Mapping[str, Any]


def report(measured: Mapping[int, Measured], arguments: argparse.Namespace) -> str:
    """What was measured, as a section of Markdown."""
    digits = sorted(measured)
    rows = list(measured[digits[0]].aucs)
    aucs = {name: [measured[digit].aucs[name] for digit in digits] for name in rows}
    titles = {AN_AND_CHO: f"{AN_AND_CHO} (An & Cho)", BASELINE_SCORE: f"{BASELINE_SCORE} (pixels)"}
    training = [measured[digit].kept["training"] for digit in digits]
    seconds = sum(
        measured[digit].kept[name]["seconds"] for digit in digits for name in (*rows, "training")
    )
    ahead = "; of ".join(_ahead(aucs, name, digits) for name in HEADLINE[1:])
    lines = [
        "## One digit is novel (the paper's experiment on MNIST)",
        "",
        f"`{_command(arguments)}`",
        "",
        _setting(training[0]["steps"], arguments.most),
        "",
        f"`{DEFAULT_SCORE}` is ahead of {ahead}.",
        "",
        *_note_on_few(rows, arguments.few),
        f"| score | {' | '.join(map(str, digits))} | mean |",
        f"| --- |{' --: |' * (len(digits) + 1)}",
        *(_row(titles.get(name, name), aucs[name]) for name in rows),
        "",
        f"{seconds / 60:.0f} processor minutes, {sum(one['seconds'] for one in training) / 60:.0f} "
        f"of them for training.",
    ]
    return "\n".join(lines)


def _command(arguments: argparse.Namespace) -> str:
    command = "python benchmarks/mnist.py" + (" --paper" if arguments.paper else "")
    command += "" if arguments.scores == "all" else f" --scores {arguments.scores}"
    return command + ("" if arguments.few == FEW else f" --few {arguments.few}")


def _setting(steps: int, most: int) -> str:
    return (
        f"AUC by the novel digit, of MNIST's 60,000 training images. 80 % of those of the other "
        f"nine digits train ({steps:,} steps, {SETTINGS['latents']} latents) and "
        f"are the reference. The test is {most:,} images of the other 20 % and "
        f"{most:,} of the novel digit: an AUC's standard error is 0.013 at most. PCA is "
        f"the reconstruction error by {PCA_COMPONENTS} components; kernel PCA that by "
        f"{KERNEL_COMPONENTS} components of a Gaussian kernel, of {KERNEL_IMAGES:,} training "
        f"images at random."
    )


def _note_on_few(rows: Sequence[str], few: int) -> list[str]:
    dear = ", ".join(f"`{name}`" for name in rows if name in CATALOGUE and on_few(name))
    error = f"{0.41 / few**0.5:.2f}"
    note = f"On {few} images of either class alone, with a standard error of up to {error}: {dear}."
    return [note, ""] if dear else []


def _ahead(aucs: Mapping[str, Sequence[float]], name: str, digits: Sequence[int]) -> str:
    ours, theirs = np.array(aucs[DEFAULT_SCORE]), np.array(aucs[name])
    behind = [str(digit) for digit, less in zip(digits, ours <= theirs, strict=True) if less]
    but = f" (not {', '.join(behind)})" if behind else ""
    means = f"{ours.mean():.3f} to {theirs.mean():.3f} in the mean"
    return f"{name} on {len(digits) - len(behind)} of {len(digits)} digits{but}, {means}"


def _row(name: str, values: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in (*values, np.mean(values)))} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
