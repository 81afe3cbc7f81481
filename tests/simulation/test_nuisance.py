"""Nuisance fields: rough ones vary within few millimetres, and the default adds nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.nuisance import NUISANCES, SMOOTH
from tests.simulation.conftest import SMALL

POINTS = np.random.default_rng(0).uniform(-60, 60, (4000, 3)).astype(np.float32)


def test_a_rough_field_differs_within_few_millimetres():
    near = POINTS + np.array([6, 0, 0], np.float32)
    both = np.concatenate([POINTS, near])
    factors = NUISANCES["rough"].tissue_factors(np.random.default_rng(1), both)
    here, there = np.log(factors[:4000]), np.log(factors[4000:])
    assert here.std() == pytest.approx(0.04, rel=0.15)
    assert 0.2 < np.corrcoef(here.ravel(), there.ravel())[0, 1] < 0.7
    assert abs(np.corrcoef(here.T)[0, 1]) < 0.2  # T2 and diffusivity by themselves
    gain = np.log(NUISANCES["rough"].gain(np.random.default_rng(1), POINTS))
    assert gain.std() == pytest.approx(0.05, rel=0.3)


def test_smooth_fields_add_nothing():
    assert (SMOOTH.tissue_factors(np.random.default_rng(1), POINTS) == 1).all()


def test_rough_fields_change_the_signal_and_nothing_else():
    smooth, rough = (
        Simulation(**SMALL, nuisance=nuisance).control(0)
        for nuisance in (SMOOTH, NUISANCES["rough"])
    )
    assert np.array_equal(smooth.tissues, rough.tissues)
    ratio = rough.signal[smooth.mask][:, 0] / smooth.signal[smooth.mask][:, 0]
    assert 0.02 < np.std(ratio) < 0.2


@pytest.mark.parametrize(
    ("patient", "total", "masks"),
    [
        (
            False,
            [4496692.24, 1253789.84, 1297927.73, 1276976.99, 1297658.41, 1302278.35, 1293354.81],
            "f50ca6d4844b6472",
        ),
        (
            True,
            [4483832.01, 1248005.74, 1306531.34, 1261770.26, 1298075.29, 1308756.27, 1302764.48],
            "87cfe201eac7580b",
        ),
    ],
)
def test_a_seed_gives_the_heads_that_it_always_gave(patient, total, masks):
    simulation = Simulation(**SMALL)
    subject = simulation.patient(0) if patient else simulation.control(0)
    # Masks to the bit; sums of the signal as processors differ in a float's last digits.
    np.testing.assert_allclose(subject.signal.sum(axis=(0, 1, 2), dtype=np.float64), total, 1e-6)
    bits = np.stack([subject.mask, subject.white_matter, subject.labels]).tobytes()
    assert hashlib.sha256(bits).hexdigest()[:16] == masks
