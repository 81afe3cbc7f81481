from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qspace_nd.imaging.figures import Figures, figures_of
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    ScanOptions,
    bring_to,
    common_protocol,
    open_scans,
    read_volumes,
)
from tests.conftest import CONTROLS


def read(path: Path, options: ScanOptions = DEFAULT_OPTIONS) -> tuple[Any, Any]:
    (scan,) = open_scans([path], options)
    bridge = bring_to(scan, common_protocol([scan], options), options)
    return read_volumes(scan, bridge, options), bridge


def of_arrays(values: np.ndarray, b0: np.ndarray | None) -> Figures:
    """The figures of voxels (n, C) of 8 mm³, which are taken as they were scanned."""
    gradients = None if b0 is None else SimpleNamespace(b0=b0)
    grid = SimpleNamespace(affine=np.diag([1.0, 2.0, 4.0, 1.0]))
    scan = SimpleNamespace(gradients=gradients, grid=grid)
    voxels: Any = SimpleNamespace(values=values.astype(np.float32), scan=scan, residual_sample=None)
    bridge: Any = SimpleNamespace(order=None, transform=None)
    figures = figures_of(voxels, bridge)
    return replace(figures, mask_ml=round(figures.mask_ml, 9))


def test_the_figures_of_a_scan_are_those_of_its_voxels(prepared: Path) -> None:
    voxels, bridge = read(prepared / CONTROLS[0])
    figures = figures_of(voxels, bridge)
    table = voxels.scan.gradients
    b0 = voxels.values[:, table.b0].mean(1)
    assert figures.mask_ml == pytest.approx(len(voxels.values) * 8**3 / 1000)
    assert figures.level == pytest.approx(np.median(b0), rel=1e-5)
    weighted = 100 * np.median(voxels.values[:, ~table.b0].mean(1) / b0)
    assert figures.weighted_percent == pytest.approx(weighted, rel=1e-4)
    assert figures.residual_percent is None or 0 < figures.residual_percent < 20
    assert figures.snr is not None and 5 < figures.snr < 200


@pytest.mark.parametrize("unweighted", [2, 3, 10])
def test_signal_to_noise_is_right_however_many_volumes_tell_it(unweighted: int) -> None:
    random = np.random.default_rng(0)
    noisy = 100 + 4 * random.normal(size=(20_000, unweighted))
    values = np.c_[noisy, np.full(len(noisy), 50.0)]
    figures = of_arrays(values, np.arange(unweighted + 1) < unweighted)
    assert figures.snr == pytest.approx(25, rel=0.03)


def test_what_one_volume_at_b0_cannot_tell_is_left_open() -> None:
    figures = of_arrays(np.full((9, 3), [4.0, 1.0, 3.0]), np.array([True, False, False]))
    assert figures == Figures(0.072, 4.0, None, 50.0, None, None)


def test_equal_volumes_at_b0_have_no_noise_to_tell() -> None:
    figures = of_arrays(np.full((9, 3), [4.0, 4.0, 3.0]), np.array([True, True, False]))
    assert figures.snr is None


def test_a_scan_without_b_values_has_a_volume_and_a_level() -> None:
    assert of_arrays(np.full((9, 2), [4.0, 2.0]), None) == Figures(0.072, 3.0)


def test_where_all_is_at_b0_or_nothing_no_weighting_is_told() -> None:
    values = np.full((9, 2), [4.0, 2.0])
    assert of_arrays(values, np.zeros(2, bool)) == Figures(0.072, 3.0)
    all_b0 = replace(of_arrays(values, np.ones(2, bool)), snr=None)
    assert all_b0 == Figures(0.072, 3.0)


def test_figures_of_a_scan_with_its_volumes_in_another_order_are_the_same(prepared: Path) -> None:
    voxels, bridge = read(prepared / CONTROLS[0], ScanOptions(gradients="strict"))
    order = np.arange(voxels.values.shape[1])[::-1]
    turned = replace(voxels, values=np.ascontiguousarray(voxels.values[:, order]))
    again = figures_of(turned, replace(bridge, order=order))
    wanted = figures_of(voxels, bridge)
    for name in ("level", "snr", "weighted_percent"):
        assert getattr(again, name) == pytest.approx(getattr(wanted, name), rel=1e-6)
