"""Choosing settings without labels: by how well changed healthy voxels are told from unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from qspace_nd.acquisition import Acquisition
from qspace_nd.alteration import alter, require_tensor
from qspace_nd.errors import InputError, WorkError
from qspace_nd.gradients import GradientTable
from qspace_nd.model import NoveltyModel, split_rows
from qspace_nd.progress import SILENT, Progress
from qspace_nd.protocol import RAW
from qspace_nd.scores.catalogue import DEFAULT_SCORE

CHOICES: Mapping[str, Sequence[Any]] = MappingProxyType(
    {"latents": (8, 16), "kl_weight": (0.003, 0.01, 0.1)}
)
"""What is tried of each setting that may be tuned; a network is trained for each combination."""

NEIGHBOURS = (1, 5, 10)
"""The numbers of neighbours that are tried with each network."""

_VOXELS = 4000  # of each held-out subject: the AUC's standard error is then below 0.01


@dataclass(frozen=True)
class Trial:
    """The settings that were free, neighbours among them, and the AUC that they reached."""

    settings: Mapping[str, Any]
    auc: float


def require_tunable(gradients: GradientTable | None, features: str, subjects: int) -> GradientTable:
    """Check, before any work, that settings can be chosen on such scans; return their gradients.

    Raises
    ------
    InputError
        There is one subject, or the channels are not raw volumes that a tensor can be fitted to.
    """
    if subjects < 2:
        raise InputError(
            "Settings cannot be tuned on scans of one person, whose own voxels may not serve as "
            "their reference; give scans of two or more people, or fit without --tune."
        )
    if gradients is None:
        raise InputError(
            "Settings cannot be tuned on scans without b-values, as it is not known how disease "
            "changes such channels; fit without --tune."
        )
    if features != RAW:
        raise InputError(
            "Settings cannot be tuned on rotation-invariant features, as disease is simulated on "
            "the volumes; take --features raw, or fit without --tune."
        )
    require_tensor(gradients)
    return gradients


def tune(
    model: NoveltyModel,
    X: NDArray[np.float32],
    groups: NDArray[Any],
    acquisition: Acquisition,
    free: Sequence[str],
    progress: Progress = SILENT,
) -> tuple[NoveltyModel, list[Trial]]:
    """Fit a model for each combination of the free settings and return the best one.

    White matter of the held-out subjects, changed as disease changes it (`alteration`), is what
    should be found; all their voxels as they are, what should not. A subject's own voxels are left
    out of the reference meanwhile. Best is the highest mean over subjects of the AUC of the
    default score.

    Parameters
    ----------
    model : NoveltyModel
        The settings that are not free; it is not fitted.
    X : (n, C) array
        See `NoveltyModel.fit`.
    groups : (n,) array
        The subject of each row.
    acquisition : Acquisition
        Of the scans.
    free : sequence of str
        Keys of `CHOICES`; where there is none, neighbours alone are chosen.

    Returns
    -------
    NoveltyModel, list of Trial
        The best model, fitted, `neighbours` set; and all trials, best first.

    Raises
    ------
    InputError
        See `require_tunable`.
    WorkError
        No held-out subject has white matter.
    """
    names, numbers = np.unique(groups.astype(str), return_inverse=True)
    table = require_tunable(acquisition.gradients, acquisition.features, len(names))
    _, held_out = split_rows(numbers.astype(np.int64), model.validation, model.seed)
    random = np.random.default_rng(model.seed)
    assessed = {}
    for number in np.unique(numbers[held_out]):
        rows = random.permutation(np.flatnonzero(numbers == number))[:_VOXELS]
        signals = X[np.sort(rows)] * acquisition.channel_means
        changed = alter(signals, table, random)
        if len(changed):
            assessed[str(names[number])] = [
                voxels / acquisition.channel_means for voxels in (changed, signals)
            ]
    if not assessed:
        raise WorkError(
            "Settings cannot be tuned: no held-out person has white matter (FA above 0.3); look at "
            "the b-vectors and the masks of the healthy scans."
        )
    trials: list[Trial] = []
    chosen, best = model, -np.inf
    for values in product(*(CHOICES[name] for name in free)):
        setting = dict(zip(free, values, strict=True))
        candidate = NoveltyModel(**(model.get_params() | setting))
        candidate.fit(X, groups=groups, acquisition=acquisition, progress=progress)
        for neighbours in NEIGHBOURS:
            auc = _auc(candidate, neighbours, assessed)
            trials.append(Trial({**setting, "neighbours": neighbours}, auc))
            if auc > best:
                chosen, best = candidate, auc
                chosen.neighbours = neighbours
    return chosen, sorted(trials, key=lambda trial: -trial.auc)


def _auc(
    model: NoveltyModel,
    neighbours: int,
    assessed: Mapping[str, Sequence[NDArray[np.float32]]],
) -> float:
    """Mean over subjects of the AUC of changed against unchanged voxels."""
    found = []
    for subject, (changed, unchanged) in assessed.items():
        novelty = model.novelties(
            np.concatenate([changed, unchanged]),
            [DEFAULT_SCORE],
            leave_out=subject,
            neighbours=neighbours,
        )[DEFAULT_SCORE]
        found.append(roc_auc_score(np.arange(len(novelty)) < len(changed), novelty))
    return float(np.mean(found))
