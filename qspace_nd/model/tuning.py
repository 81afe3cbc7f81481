"""Choosing settings without labels: by how well changed healthy voxels are told from unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.alteration import alter, require_tensor
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import InputError, WorkError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import RAW
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy, Piece, collect, draw, held_out_subjects
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.names import DEFAULT_SCORE

CHOICES: Mapping[str, Sequence[Any]] = MappingProxyType(
    {"latents": (8, 16), "kl_weight": (0.003, 0.01, 0.03)}
)
"""What is tried of each setting that may be tuned; a network is trained for each combination."""

NEIGHBOURS = (1, 5, 10)
"""The numbers of neighbours that are tried with each network."""

_VOXELS = 4000  # of each held-out subject: the AUC's standard error is then below 0.01


@dataclass(frozen=True)
class Trial:
    """What was tried.

    Attributes
    ----------
    settings : mapping
        Those that were free, neighbours among them.
    auc : float
        That they reached.
    dead : int
        Latents that carry nothing of the signal.
    """

    settings: Mapping[str, Any]
    auc: float
    dead: int

    @property
    def merit(self) -> tuple[bool, float]:
        """By what the best is chosen: that no latent is dead, then the AUC."""
        return not self.dead, self.auc


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


@dataclass(frozen=True)
class Assessment:
    """How well settings find what is known to be changed, without any lesion label.

    White matter of the held-out subjects, changed as disease changes it (`alteration`), is what
    should be found; all their voxels as they are, what should not.

    Attributes
    ----------
    voxels : mapping of str to pair of (n, C) arrays
        Changed and unchanged voxels of each held-out subject.
    """

    voxels: Mapping[str, tuple[Float32, Float32]]

    @staticmethod
    def of(model: NoveltyModel, healthy: Sequence[Healthy], acquisition: Acquisition) -> Assessment:
        """Change white matter of the subjects that `model` would hold out.

        Raises
        ------
        InputError
            See `require_tunable`.
        WorkError
            No held-out subject has white matter.
        """
        subjects = [part.subject for part in healthy]
        table = require_tunable(acquisition.gradients, acquisition.features, len(set(subjects)))
        random = np.random.default_rng(model.seed)
        means, voxels = acquisition.channel_means, {}
        for subject in sorted(held_out_subjects(subjects, model.validation, model.seed)):
            own = [Piece(subject, p.rows, 0, len(p.rows)) for p in healthy if p.subject == subject]
            unchanged = np.concatenate(list(collect(own, draw(own, _VOXELS, model.seed))))
            changed = alter(unchanged * means, table, random)
            if len(changed):
                voxels[subject] = changed / means, unchanged
        if not voxels:
            raise WorkError(
                "Settings cannot be tuned: no held-out person has white matter (FA above 0.3); "
                "look at the b-vectors and the masks of the healthy scans."
            )
        return Assessment(voxels)

    def auc(self, model: NoveltyModel, neighbours: int, memory: int | None = None) -> float:
        """Mean over subjects of the AUC of changed against unchanged voxels, by the default score.

        A subject's own voxels are left out of the reference meanwhile.
        """
        found = []
        for subject, (changed, unchanged) in self.voxels.items():
            novelty = model.novelties(
                np.concatenate([changed, unchanged]),
                [DEFAULT_SCORE],
                leave_out=subject,
                neighbours=neighbours,
                memory=memory,
            )[DEFAULT_SCORE]
            found.append(roc_auc_score(np.arange(len(novelty)) < len(changed), novelty))
        return float(np.mean(found))


def tune(
    model: NoveltyModel,
    healthy: Sequence[Healthy],
    acquisition: Acquisition,
    free: Sequence[str],
    *,
    memory: int | None = None,
    progress: Progress = SILENT,
) -> tuple[NoveltyModel, list[Trial]]:
    """Fit a model for each combination of the free settings and return the best one.

    Best is the highest AUC of an `Assessment` among the networks with no dead latent, or among all
    where each has some.

    Parameters
    ----------
    model : NoveltyModel
        The settings that are not free; it is not fitted.
    healthy : sequence of Healthy
        The voxels of each scan.
    acquisition : Acquisition
        Of the scans.
    free : sequence of str
        Keys of `CHOICES`; where there is none, neighbours alone are chosen.
    memory : int, optional
        See `NoveltyModel.fit_parts`.

    Returns
    -------
    NoveltyModel, list of Trial
        The best model, fitted, `neighbours` set; and all trials, best first.

    Raises
    ------
    InputError, WorkError
        See `Assessment.of`.
    """
    assessment = Assessment.of(model, healthy, acquisition)
    trials: list[Trial] = []
    chosen = model
    for values in product(*(CHOICES[name] for name in free)):
        setting = dict(zip(free, values, strict=True))
        candidate = NoveltyModel(**(model.get_params() | setting))
        candidate.fit_parts(healthy, acquisition=acquisition, memory=memory, progress=progress)
        dead = candidate.network_.latents - candidate.history_.latents_alive
        for neighbours in NEIGHBOURS:
            auc = assessment.auc(candidate, neighbours, memory)
            trial = Trial({**setting, "neighbours": neighbours}, auc, dead)
            if all(trial.merit > other.merit for other in trials):
                chosen = candidate
                chosen.neighbours = neighbours
            trials.append(trial)
    return chosen, sorted(trials, key=lambda trial: trial.merit, reverse=True)
