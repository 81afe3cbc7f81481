"""Whether a model is good, in words: a user without labels has nothing else to go by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from scipy import stats

from qspace_nd.calibration.summary import COMMON
from qspace_nd.errors import InputError, WorkError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured
from qspace_nd.model.rows import Healthy, as_part
from qspace_nd.model.tuning import Assessment
from qspace_nd.scores.reference import Reference

_log = logging.getLogger(__name__)

_FAR = 3.0  # times that share: who has more should be looked at
_LEAST_AUC = 0.6  # of changed healthy white matter; chance has 0.5
_LEAST_AGED, _LEAST_OF_SEX = 6, 3  # people of whom it is known: of fewer nothing is told
_SURE = 0.05  # p
_FEW_LOOKS = 10  # at the held-out voxels: of fewer nothing is told


def assess(
    model: NoveltyModel, healthy: Sequence[Healthy], acquisition: Acquisition, memory: int | None
) -> None:
    """Keep in a model's history how well it tells changed healthy white matter from unchanged.

    Nothing is kept where that cannot be told: of one person, or of channels whose change in disease
    is not known.
    """
    try:
        assessment = Assessment.of(model, healthy, acquisition)
    except (InputError, WorkError) as error:
        _log.debug(f"It is not told how well changed white matter is found: {error}")
        return
    auc, of_all = assessment.auc(model, model.neighbours_, memory), None
    if model.reference is not None and model.reference < sum(len(one.rows) for one in healthy):
        whole = copy(model)
        whole.reference_ = Reference([as_part(one, model.network_) for one in healthy])
        of_all = assessment.auc(whole, model.neighbours_, memory)
    model.history_ = replace(model.history_, altered_auc=auc, altered_auc_of_all=of_all)


def healthy_shares(model: NoveltyModel, measured: Measured) -> dict[str, float]:
    """The share of each healthy person's voxels that is above the others' 1 %, by one score."""
    summary = model.summary(measured)
    return dict(zip(summary.masses, summary.above[COMMON], strict=True))


def told(shares: Mapping[str, float], score: str) -> str:
    """Say how alike the healthy people are by a score, and warn of one who is unlike the others.

    "1.1 % (0.6 to 1.5) of their voxels above the others' 1 %", for a sentence that names who.
    """
    least, most = min(shares.values()), max(shares.values())
    if most > _FAR * COMMON:
        worst = max(shares, key=shares.__getitem__)
        _log.warning(
            f"{worst} has {100 * most:.1f} % of the voxels above the other healthy people's 1 %, "
            f"by {score}; look at that scan, as all maps are compared with it."
        )
    mean = 100 * float(np.mean(list(shares.values())))
    spread = f"{100 * least:.1f} to {100 * most:.1f}"
    return f"{mean:.1f} % ({spread}) of their voxels above the others' {100 * COMMON:.0f} %"


def report_people(acquisition: Acquisition | None, shares: Mapping[str, float]) -> None:
    """Say whether the healthy people's shares go with their age or sex, where these are known."""
    if acquisition is None:
        return
    of = {scan.subject: scan.person for scan in acquisition.scans}
    aged = [(age, shares[who]) for who, one in of.items() if (age := one.age) is not None]
    if len(aged) >= _LEAST_AGED and len(set(aged)) > 1:
        ages = [age for age, _ in aged]
        found = stats.spearmanr(*zip(*aged, strict=True))
        _say_effect(
            f"age (Spearman's r {found.statistic:.2f}, p {found.pvalue:.2g}; {len(aged)} people of "
            f"{min(ages):.0f} to {max(ages):.0f} years)",
            found.pvalue,
        )
    women, men = ([shares[w] for w, one in of.items() if one.sex == sex] for sex in "FM")
    if min(len(women), len(men)) >= _LEAST_OF_SEX:
        p = stats.mannwhitneyu(women, men).pvalue
        _say_effect(
            f"sex (F {100 * np.mean(women):.1f} %, M {100 * np.mean(men):.1f} % in the mean; "
            f"Mann-Whitney p {p:.2g})",
            p,
        )


def _say_effect(what: str, p: float) -> None:
    if p < _SURE:
        _log.warning(
            f"The healthy people's share goes with {what}: compare patients with people like them."
        )
    else:
        _log.info(f"The healthy people's share was not seen to go with {what}")


def give_verdict(model: NoveltyModel, measured: Measured | None) -> None:
    """Say whether a fitted model is good, and of what is not, what to do.

    Parameters
    ----------
    model : NoveltyModel
    measured : Measured or None
        By what its healthy people were measured; None where they were not.
    """
    history = model.history_
    _log.debug(
        f"Validation loss {history.validation_loss:.2f} nats a voxel; latents alive "
        f"{history.latents_alive} of {model.network_.latents}; KL of each, in nats: "
        f"{', '.join(f'{kl:.1f}' for kl in history.latent_kl)}"
    )
    facts = []
    if measured is not None:
        shares = healthy_shares(model, measured)
        facts.append(f"left-out controls have {told(shares, measured.score)}")
    if history.altered_auc is not None:
        facts.append(
            f"healthy white matter that is changed as disease would is found with AUC "
            f"{history.altered_auc:.2f}"
        )
    if history.altered_auc_of_all is not None:
        facts[-1] += (
            f" by {len(model.reference_):,} healthy voxels, by all of them with "
            f"{history.altered_auc_of_all:.2f}"
        )
    facts.append(f"{history.latents_alive} of {model.network_.latents} latents are used")
    few = len(history.losses) < _FEW_LOOKS
    faults = _faults(model, few)
    text = "; ".join(facts)
    _log.info(f"{text[0].upper()}{text[1:]}{'' if faults or few else ': good'}")
    for fault in faults:
        _log.warning(fault)
    if measured is not None:
        report_people(model.acquisition_, shares)
    if few:
        _log.info(
            "Training was too short to tell whether it went well; for maps that are to be used, "
            "leave --epochs out, or raise it"
        )


def _faults(model: NoveltyModel, few: bool) -> list[str]:
    """What is wrong with a model, of which `few` looks were taken, and what to do: sentences."""
    history, faults = model.history_, []
    latents = model.network_.latents
    dead = latents - history.latents_alive
    if dead:
        faults.append(
            f"Training went badly: {dead} of {latents} latents are dead, that is, carry "
            f"nothing of the signal, and lesions may go unseen; lower --kl-weight or take fewer "
            f"--latents, and fit again."
        )
    if history.still_falling:
        more = "leave --epochs out, or raise it" if model.epochs else "look at the maps with care"
        faults.append(
            f"Training was not over: the fit to people whom it had not seen was still getting "
            f"better at the last step, and so may the maps; {more}."
        )
    if not few and history.altered_auc is not None and history.altered_auc < _LEAST_AUC:
        faults.append(
            f"Changed white matter is hardly told from healthy tissue (AUC "
            f"{history.altered_auc:.2f}; chance has 0.50), and so may lesions there; take a score "
            f"that knows the direction of the change (map --toward), or choose the settings with "
            f"--tune."
        )
    return faults
