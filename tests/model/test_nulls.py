"""The model of arrays that knows what is usual: p-values, a threshold, outliers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from qspace_nd.errors import InputError, ModelError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured, grid_arrays, healthy_maps, null_arrays


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    random = np.random.default_rng(0)
    x = random.normal(1, 0.1, size=(800, 6)).astype(np.float32)
    groups = np.repeat(["a", "b", "c", "d"], 200)
    return NoveltyModel(latents=2, epochs=2).fit(x, groups=groups).calibrate()


def test_outliers_are_minus_one_as_in_scikit_learn(model: NoveltyModel) -> None:
    random = np.random.default_rng(1)
    x = random.normal(1, 0.1, size=(400, 6)).astype(np.float32)
    x[:20] += 3
    p = model.p_values(x)
    assert (p[:20] <= 2 / 801).all()
    assert set(np.unique(model.predict(x))) == {-1, 1}
    np.testing.assert_array_equal(model.predict(x) == -1, p < 0.01)
    assert (model.predict(x)[:20] == -1).all()
    assert ((model.novelty(x) >= model.threshold_) == (p < 0.012)).mean() > 0.98


def test_a_model_that_is_not_calibrated_predicts_nothing() -> None:
    assert not hasattr(NoveltyModel(), "predict")


def test_a_score_that_was_not_measured_has_no_p(model: NoveltyModel) -> None:
    with pytest.raises(InputError, match="not calibrated for input-distance; calibrate it first"):
        model.null(Measured("input-distance", 10))


def test_a_calibrated_model_can_be_pickled(model: NoveltyModel) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.threshold_ == model.threshold_


def test_rows_that_come_with_an_acquisition_are_measured_as_rows() -> None:
    random = np.random.default_rng(0)
    x = random.normal(1, 0.1, size=(400, 6)).astype(np.float32)
    acquisition = Acquisition(np.ones(6, np.float32), None, ())
    groups = np.repeat(["a", "b", "c", "d"], 100)
    model = NoveltyModel(latents=2, epochs=2)
    assert model.fit(x, groups=groups, acquisition=acquisition).calibrate().threshold_ > 0


def test_maps_and_where_they_lie_come_back() -> None:
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 1:3, 2] = True
    novelty = np.float32([0.5, 2.5])
    grids = grid_arrays([(mask, np.diag([2.0, 2, 2, 1]))])
    (one,) = healthy_maps(null_arrays([novelty]), grids, [("a", 2)])
    np.testing.assert_array_equal(one.mask, mask)
    np.testing.assert_array_equal(one.novelty, novelty)
    with pytest.raises(ModelError, match="does not fit its reference; calibrate it again"):
        healthy_maps(null_arrays([novelty]), grids, [("a", 3)])
    grids = {**grids, "0.shape": np.array([4000, 4000, 4000])}
    with pytest.raises(ModelError, match="healthy voxels lie does not fit"):
        healthy_maps(null_arrays([novelty]), grids, [("a", 2)])
    grids = {**grids, "0.mask": grids["0.mask"][:1]}
    with pytest.raises(ModelError, match="healthy voxels lie does not fit"):
        healthy_maps(null_arrays([novelty]), grids, [("a", 2)])
