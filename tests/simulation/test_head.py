from __future__ import annotations

import math

import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel, tensor_prediction
from dipy.sims.voxel import all_tensor_evecs, multi_tensor

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import InputError
from qspace_nd.simulation.anatomy import Anatomy
from qspace_nd.simulation.head import (
    Subject,
    multi_tensor_signal,
    rician,
    simulate_subject,
    standard_table,
)
from qspace_nd.simulation.lesions import LESION_KINDS, draw_lesion_mask

TABLE = standard_table(unweighted=2, directions=12)
VOXELS, TENSORS = 100, 3


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return Anatomy.of_icbm152(6.0)


@pytest.fixture(scope="module")
def healthy(anatomy) -> Subject:
    return simulate_subject(anatomy, TABLE, 5)


def _as_dipy(table: GradientTable):
    return gradient_table(table.bvals, bvecs=table.directions)


def _random_tensors(seed: int = 0):
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet(np.ones(TENSORS), size=VOXELS)
    parallel = rng.uniform(0.5e-3, 3e-3, (VOXELS, TENSORS))
    perpendicular = parallel * rng.uniform(0.1, 1.0, (VOXELS, TENSORS))
    axes = rng.normal(size=(VOXELS, TENSORS, 3))
    return fractions, parallel, perpendicular, axes / np.linalg.norm(axes, axis=-1, keepdims=True)


def test_the_signal_is_that_of_dipys_multi_tensor():
    fractions, parallel, perpendicular, axes = _random_tensors()
    signal = multi_tensor_signal(TABLE, 300 * fractions, parallel, perpendicular, axes)
    for i in range(VOXELS):
        eigenvalues = np.stack([parallel[i], perpendicular[i], perpendicular[i]], axis=1)
        expected, _ = multi_tensor(
            _as_dipy(TABLE),
            eigenvalues,
            S0=300.0,
            angles=axes[i],
            fractions=100 * fractions[i],
            snr=None,
        )
        np.testing.assert_allclose(signal[i], expected, rtol=1e-4)


def test_the_signal_is_the_weighted_sum_of_dipys_tensor_predictions():
    weights, parallel, perpendicular, axes = _random_tensors(1)
    signal = multi_tensor_signal(TABLE, weights, parallel, perpendicular, axes)
    expected = np.zeros_like(signal, dtype=np.float64)
    for k in range(TENSORS):
        eigenvalues = np.stack([parallel[:, k], perpendicular[:, k], perpendicular[:, k]], axis=1)
        vectors = np.stack([all_tensor_evecs(axis).ravel() for axis in axes[:, k]])
        tensors = np.concatenate([eigenvalues, vectors], axis=1)
        expected += weights[:, k, None] * tensor_prediction(tensors, _as_dipy(TABLE), 1.0)
    np.testing.assert_allclose(signal, expected, rtol=1e-4)


def test_rician_noise_has_the_moments_of_the_rice_distribution():
    rng = np.random.default_rng(0)
    background = rician(np.zeros(200_000, np.float32), 2.0, rng)
    assert background.mean() == pytest.approx(2.0 * math.sqrt(math.pi / 2), rel=0.01)
    tissue = rician(np.full(200_000, 5.0, np.float32), 2.0, rng).astype(np.float64)
    assert np.mean(tissue**2) == pytest.approx(5.0**2 + 2 * 2.0**2, rel=0.01)  # E[M²] = S² + 2σ²


def test_the_default_protocol_has_six_b0_and_forty_spread_directions():
    table = standard_table()
    assert table.shells() == "6 at b=0, 40 at b=1200"
    weighted = table.directions[~table.b0]
    np.testing.assert_allclose(np.linalg.norm(weighted, axis=1), 1.0)
    cosines = np.abs(weighted @ weighted.T) - 2 * np.eye(40)
    assert np.degrees(np.arccos(cosines.max(axis=1))).min() > 20
    assert np.array_equal(table.directions, standard_table().directions)
    assert table.b0[0] and not table.b0[:2].all()


@pytest.mark.parametrize(
    "wrong", [{"unweighted": 0}, {"directions": 5}, {"bvalue": 0.0}, {"bvalue": float("nan")}]
)
def test_an_impossible_protocol_is_refused(wrong):
    with pytest.raises(InputError, match="no usual protocol; choose at least 1 and 6"):
        standard_table(**wrong)


def test_a_scan_has_signal_in_the_brain_and_none_far_from_it(healthy, anatomy):
    assert healthy.signal.shape == (*anatomy.shape, 14)
    assert healthy.signal.dtype == np.float32
    assert healthy.mask.sum() * 6.0**3 / 1e6 == pytest.approx(1.85, abs=0.25)  # litres
    assert healthy.signal[healthy.mask].min() > 0
    assert np.isfinite(healthy.signal).all()
    assert not healthy.signal[0, 0, 0].any()


def test_the_tissues_differ_as_in_a_t2_weighted_scan(anatomy):
    subject = simulate_subject(anatomy, TABLE, 5, snr=1000)
    pure = subject.tissues > 0.9
    white, grey, fluid = (subject.signal[pure[..., k]][:, TABLE.b0].mean() for k in range(3))
    assert white < grey < 0.5 * fluid
    fit = TensorModel(_as_dipy(TABLE)).fit(subject.signal, mask=subject.mask)
    assert np.median(fit.fa[pure[..., 0]]) > 0.4 > 0.15 > np.median(fit.fa[pure[..., 1]])
    assert np.median(fit.md[pure[..., 2]]) == pytest.approx(3e-3, rel=0.2)


def test_fibres_of_the_corpus_callosum_run_sideways_in_the_world_frame(anatomy):
    subject = simulate_subject(anatomy, TABLE, 5, snr=1000)
    x = anatomy.points()[..., 0]
    midline = (np.abs(x) < 7) & (subject.tissues[..., 0] > 0.7) & (anatomy.points()[..., 2] > 0)
    fit = TensorModel(_as_dipy(TABLE)).fit(subject.signal[midline])
    assert np.median(np.abs(fit.evecs[:, 0, 0])) > 0.8


def test_a_seed_gives_one_subject(healthy, anatomy):
    sequence = np.random.SeedSequence(5)
    for seed in (5, sequence, sequence):
        assert np.array_equal(simulate_subject(anatomy, TABLE, seed).signal, healthy.signal)
    assert not np.array_equal(simulate_subject(anatomy, TABLE, 6).mask, healthy.mask)


def test_healthy_subjects_differ_by_more_than_their_noise(anatomy):
    first, second = (simulate_subject(anatomy, TABLE, seed, snr=1000) for seed in (1, 2))
    both = (first.tissues[..., 0] > 0.9) & (second.tissues[..., 0] > 0.9)
    b0 = [subject.signal[both][:, 0] for subject in (first, second)]
    ratio = (b0[0] / b0[0].mean()) / (b0[1] / b0[1].mean())
    assert 0.04 < ratio.std() < 0.3


def test_a_lesion_changes_nothing_outside_itself(healthy, anatomy):
    lesions = draw_lesion_mask(np.random.default_rng(0))
    patient = simulate_subject(anatomy, TABLE, 5, lesions=lesions)
    changed = np.any(patient.signal != healthy.signal, axis=-1)
    assert not changed[patient.lesion_fraction == 0].any()
    assert changed[patient.labels].all()
    assert patient.labels.any() and not healthy.labels.any()
    assert (patient.lesion_fraction[patient.labels] >= 0.5).all()


@pytest.mark.parametrize(
    ("kind", "b0_rises", "diffusivity_change", "fa_change"),
    [
        ("demyelinating", True, 1, -1),
        ("restricted", True, -1, None),
        ("mild-t2", True, 0, 0),
        ("anisotropy", False, 0, -1),
    ],
)
def test_a_kind_of_lesion_alters_what_it_says(
    anatomy, kind, b0_rises, diffusivity_change, fa_change
):
    lesions = draw_lesion_mask(np.random.default_rng(0))
    model = TensorModel(_as_dipy(TABLE))
    before, after = (
        simulate_subject(anatomy, TABLE, 5, lesions=given, kind=LESION_KINDS[kind], snr=1e5)
        for given in (None, lesions)
    )
    # Of one tissue only, as the compartments of a mixture weigh differently once one is altered.
    where = after.labels & (after.tissues[..., 0] > 0.8)
    fits = [model.fit(subject.signal[where]) for subject in (before, after)]
    assert (np.median(after.signal[where][:, 0] / before.signal[where][:, 0]) > 1.01) == b0_rises
    for change, values in (
        (diffusivity_change, [fit.md for fit in fits]),
        (fa_change, [fit.fa for fit in fits]),
    ):
        ratio = np.median(values[1] / values[0])
        if change is not None:
            assert np.sign(ratio - 1) * (abs(ratio - 1) > 0.02) == change


def test_noise_follows_the_signal_to_noise_ratio(anatomy):
    clean, noisy = (simulate_subject(anatomy, TABLE, 5, snr=snr) for snr in (1e6, 20.0))
    bright = clean.mask & (clean.signal[..., 0] > 400)
    noise = noisy.signal[bright][:, 0] - clean.signal[bright][:, 0]
    assert noise.std() == pytest.approx(600 / 20, rel=0.05)


@pytest.mark.parametrize("snr", [0.0, -1.0, float("nan")])
def test_an_snr_that_is_not_positive_is_refused(anatomy, snr):
    with pytest.raises(InputError, match=r"signal-to-noise ratio is .*; give a positive one"):
        simulate_subject(anatomy, TABLE, 5, snr=snr)
