from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import RAW, ROTATION_INVARIANT
from qspace_nd.model import tuning
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy, held_out_subjects
from qspace_nd.model.tuning import require_tunable, tune
from qspace_nd.simulation.head import multi_tensor_signal, standard_table

TABLE = standard_table()
GROUPS = np.repeat(["a", "b", "c"], 300)


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    """Noisy white matter of three people."""
    random = np.random.default_rng(0)
    axes = random.normal(size=(len(GROUPS), 1, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    ones = np.ones((len(GROUPS), 1))
    signal = multi_tensor_signal(TABLE, ones, 1.7e-3 * ones, 0.4e-3 * ones, axes)
    return np.asarray(signal + 0.02 * random.normal(size=signal.shape), dtype=np.float32)


def scans_of(voxels: np.ndarray) -> list[Healthy]:
    return [Healthy(subject, voxels[subject == GROUPS]) for subject in ("a", "b", "c")]


def test_the_model_with_the_highest_auc_is_chosen_and_its_people_were_left_out(voxels, monkeypatch):
    left_out = []
    novelties = NoveltyModel.novelties

    def listen(self, X, scores, *, leave_out=None, **options):
        left_out.append(leave_out)
        return novelties(self, X, scores, leave_out=leave_out, **options)

    monkeypatch.setattr(NoveltyModel, "novelties", listen)
    monkeypatch.setattr(tuning, "CHOICES", {"latents": (1, 4), "kl_weight": (0.01,)})
    acquisition = Acquisition(np.ones(len(TABLE.bvals), np.float32), TABLE, ())
    model = NoveltyModel(hidden=(16,), epochs=300, preset="default", device="cpu")
    chosen, trials = tune(model, scans_of(voxels), acquisition, ["latents", "kl_weight"])
    assert set(left_out) == held_out_subjects(GROUPS, model.validation, model.seed)
    assert len(trials) == 6 and trials[0].auc == max(trial.auc for trial in trials)
    assert trials[0].settings.items() <= chosen.get_params().items()
    assert chosen.reference_.subjects == {"a", "b", "c"}
    assert trials[0].auc > 0.7


def test_a_network_with_dead_latents_is_chosen_only_where_there_is_no_other(voxels, monkeypatch):
    def auc(self, model, neighbours, memory=None):
        return 0.9 if model.kl_weight > 1 else 0.8  # the dead ones find more

    monkeypatch.setattr(tuning.Assessment, "auc", auc)
    acquisition = Acquisition(np.ones(len(TABLE.bvals), np.float32), TABLE, ())
    model = NoveltyModel(latents=2, hidden=(16,), epochs=30, device="cpu")
    for weights, chosen_weight in (((1e6, 0.01), 0.01), ((2e6, 1e6), 2e6)):
        monkeypatch.setattr(tuning, "CHOICES", {"kl_weight": weights})
        chosen, trials = tune(model, scans_of(voxels), acquisition, ["kl_weight"])
        assert chosen.kl_weight == trials[0].settings["kl_weight"] == chosen_weight
        assert chosen.neighbours == trials[0].settings["neighbours"]
    assert [trial.dead for trial in trials] == [2] * 6


@pytest.mark.parametrize(
    ("gradients", "features", "subjects", "sentence"),
    [
        (TABLE, RAW, 1, "scans of one person"),
        (None, RAW, 3, "scans without b-values"),
        (TABLE, ROTATION_INVARIANT, 3, "take --features raw"),
    ],
)
def test_scans_that_cannot_be_tuned_on_are_refused(gradients, features, subjects, sentence):
    with pytest.raises(InputError, match=sentence):
        require_tunable(gradients, features, subjects)


def test_where_no_setting_is_free_neighbours_alone_are_chosen(voxels):
    acquisition = Acquisition(np.ones(len(TABLE.bvals), np.float32), TABLE, ())
    model = NoveltyModel(latents=2, hidden=(16,), epochs=1, device="cpu")
    chosen, trials = tune(model, scans_of(voxels), acquisition, [])
    assert [set(trial.settings) for trial in trials] == [{"neighbours"}] * 3
    assert chosen.neighbours == trials[0].settings["neighbours"]
