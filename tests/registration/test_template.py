from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from qspace_nd.errors import ArrayError
from qspace_nd.registration.template import ROUNDS, Template, build_template
from tests.conftest import Heard


def test_the_template_lies_along_the_worlds_axes_around_the_mean_brain(heads, template):
    np.testing.assert_array_equal(template.affine[:3, :3], 3.0 * np.eye(3))
    volumes = [27.0 * one.images.mask.sum() for one in heads[:3]]
    assert 0.9 * min(volumes) < 27.0 * template.mask.sum() < 1.1 * max(volumes)
    assert np.isfinite(template.values).all()
    border = template.mask.copy()
    border[6:-6, 6:-6, 6:-6] = False
    assert not border.any()


def test_the_same_scans_give_the_same_bytes_whatever_the_threads(heads, template):
    heard = Heard()
    with threadpool_limits(1):
        again = build_template([one.images for one in heads[:3]], heard)
    assert again.values.tobytes() == template.values.tobytes()
    assert heard.steps == [(1 + ROUNDS) * 3]


def test_a_template_comes_back_from_its_arrays(template):
    again = Template.from_arrays(template.to_arrays())
    np.testing.assert_array_equal(again.values, template.values)
    np.testing.assert_array_equal(again.mask, template.mask)
    np.testing.assert_array_equal(again.affine, template.affine)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.pop("mask"), "no 'mask'"),
        (lambda a: a.update(values=a["values"].astype(np.float64)), "type float64 where float32"),
        (lambda a: a.update(values=a["values"][0]), r"expected \(M, X, Y, Z\)"),
        (lambda a: a.update(affine=np.zeros((4, 4))), "lies nowhere"),
        (lambda a: a.update(values=np.full_like(a["values"], np.nan)), "not finite"),
        (lambda a: a.update(mask=np.zeros_like(a["mask"])), "empty"),
    ],
)
def test_arrays_that_are_no_template_are_refused(template, spoil, message):
    arrays = template.to_arrays()
    spoil(arrays)
    with pytest.raises(ArrayError, match=message):
        Template.from_arrays(arrays)


def test_no_scan_makes_no_template():
    with pytest.raises(ArrayError, match="no scan to make a template of"):
        build_template([])
