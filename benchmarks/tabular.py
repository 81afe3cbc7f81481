"""Tables of other fields and small images: latent-distance beside detectors of PyOD.

    QSPACE_ND_DATA=... python benchmarks/tabular.py

Half of a table's inliers, at random, are what is learnt from; the other half and all outliers are
the test. Every method has the same splits and the same standardised columns. Of scikit-learn's
digits, 8 x 8 pixels as they are, each in turn is novel; 80 % of the others are learnt from.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import write_section
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qspace_nd.model.novelty_model import NoveltyModel

OURS = "latent-distance"


def _pyod(module: str, name: str, **settings: Any) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"pyod.models.{module}"), name)(**settings)


METHODS: Mapping[str, Callable[[], Any]] = {
    OURS: lambda: NoveltyModel(device="cpu"),
    "KNN": _pyod("knn", "KNN"),
    "IForest": _pyod("iforest", "IForest", random_state=0),
    "ECOD": _pyod("ecod", "ECOD"),
    "LOF": _pyod("lof", "LOF"),
    "GMM": _pyod("gmm", "GMM", n_components=10, random_state=0),
    "VAE": _pyod("vae", "VAE", random_state=0, verbose=0),
}
"""All with PyOD's defaults, but 10 components of the mixture."""

DIGITS: Mapping[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "as rows": (METHODS[OURS], (64,)),
    "as images": (METHODS[OURS], (1, 8, 8)),
    "KNN": (METHODS["KNN"], (64,)),
    "KNN, nearest": (_pyod("knn", "KNN", n_neighbors=1), (64,)),
}
"""latent-distance of the digits as rows and as images, and what it is compared with."""

Table = tuple[NDArray[np.float64], NDArray[np.bool_]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=3, help="random halves of the inliers")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    arguments = parser.parse_args()
    folder = os.environ.get("QSPACE_ND_DATA")
    if not folder:
        raise SystemExit("QSPACE_ND_DATA names no folder with tables/.")
    aucs: dict[str, dict[str, float]] = {}
    seconds = dict.fromkeys(METHODS, 0.0)
    for path in sorted((Path(folder) / "tables").glob("*.npz")):
        table = read(path)
        aucs[title(path, table)] = row = {}
        for name, build in METHODS.items():
            start = time.process_time()
            row[name] = float(
                np.mean([auc(build(), *split(table, seed)) for seed in range(arguments.splits)])
            )
            seconds[name] += (time.process_time() - start) / arguments.splits
        print(path.stem, {name: round(value, 3) for name, value in row.items()}, flush=True)
    text = report(aucs, seconds, arguments.splits)
    text += "\n\n" + digits_report({name: digits(name) for name in DIGITS})
    write_section(arguments.output, "tabular", text)
    print(text)


def read(path: Path) -> Table:
    """Columns of a table, and which rows are outliers."""
    with np.load(path) as arrays:
        return arrays["X"].astype(np.float64), arrays["y"].astype(bool)


def title(path: Path, table: Table) -> str:
    (rows, columns), outliers = table[0].shape, table[1].sum()
    name = path.stem.split("_")[1]
    return f"{name} ({rows:,} rows, {columns} columns, {outliers} outliers)"


def split(
    table: Table, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Half of the inliers, at random; all other rows, and which of them are outliers."""
    x, outlier = table
    inliers = np.random.default_rng(seed).permutation(np.flatnonzero(~outlier))
    learnt = np.zeros(len(x), bool)
    learnt[inliers[: len(inliers) // 2]] = True
    return x[inliers[: len(inliers) // 2]], x[~learnt], outlier[~learnt]


def auc(
    detector: Any,
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    outlier: NDArray[np.bool_],
) -> float:
    model = make_pipeline(StandardScaler(), detector)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyOD's own
        torch.manual_seed(0)
        model.fit(train)
        return float(roc_auc_score(outlier, model.decision_function(test)))


def digits(name: str) -> list[float]:
    """AUC of a method for each novel digit."""
    build, shape = DIGITS[name]
    x, digit = load_digits(return_X_y=True)
    aucs = []
    for novel in range(10):
        normal = np.random.default_rng(0).permutation(np.flatnonzero(digit != novel))
        end = round(0.8 * len(normal))
        test = np.concatenate([normal[end:], np.flatnonzero(digit == novel)])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build().fit(x[normal[:end]].reshape(-1, *shape))
            novelty = model.decision_function(x[test].reshape(-1, *shape))
        aucs.append(float(roc_auc_score(digit[test] == novel, novelty)))
    print(name, [round(value, 3) for value in aucs], flush=True)
    return aucs


def digits_report(aucs: Mapping[str, list[float]]) -> str:
    lines = [
        "AUC by the novel digit, of scikit-learn's 1,797 images of 8 x 8 pixels: 80 % of those of "
        "the other nine digits, about 1,300, are learnt from; the other 20 % and all of the novel "
        "digit are the test. latent-distance of the pixels as they are, given as rows and as "
        "images, PyOD's KNN with its defaults (the distance to the fifth neighbour) and to the "
        "nearest neighbour.",
        "",
        f"| digits | {' | '.join(map(str, range(10)))} | mean |",
        f"| --- |{' --: |' * 11}",
        *(
            f"| {name} | {' | '.join(f'{value:.3f}' for value in (*row, np.mean(row)))} |"
            for name, row in aucs.items()
        ),
    ]
    return "\n".join(lines)


def report(
    aucs: Mapping[str, Mapping[str, float]], seconds: Mapping[str, float], splits: int
) -> str:
    names = list(METHODS)
    lines = [
        "## Tables of other fields",
        "",
        f"`python benchmarks/tabular.py --splits {splits}`",
        "",
        f"AUC, the mean over {splits} random halves of the inliers to learn from; the other half "
        "and all outliers are the test. The same halves and standardised columns for all methods; "
        "the best of a row in bold. NoveltyModel and PyOD with their defaults, but 10 components "
        "of the mixture. Tables of ADBench. The recipe of few rows was chosen on other halves of "
        "optdigits, vowels and cardio, and on images of MNIST's test set.",
        "",
        f"| table | {' | '.join(names)} |",
        f"| --- |{' --: |' * len(names)}",
        *(_row(name, [row[one] for one in names]) for name, row in aucs.items()),
        _row("mean", [float(np.mean([row[one] for row in aucs.values()])) for one in names]),
        f"| processor seconds for all | {' | '.join(f'{seconds[one]:.1f}' for one in names)} |",
    ]
    return "\n".join(lines)


def _row(name: str, values: list[float]) -> str:
    best = max(round(value, 3) for value in values)
    cells = [f"**{v:.3f}**" if round(v, 3) == best else f"{v:.3f}" for v in values]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
