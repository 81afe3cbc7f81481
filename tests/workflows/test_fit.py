from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import GradientError, ScanError
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    Protocol,
    bring_to,
    open_scans,
    protocol_of,
    read_scan,
)
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.history import History
from qspace_nd.network.recipes import PRESETS
from qspace_nd.system.machine import Machine
from qspace_nd.workflows import verdict
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from tests.conftest import CONTROLS, MODEL, PATIENT, Heard, Run

pytestmark = pytest.mark.usefixtures("inside")


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).astype(np.float64)


def test_the_channels_of_all_healthy_voxels_have_a_mean_of_1() -> None:
    model = NoveltyModel.load(MODEL)
    x = np.concatenate([np.asarray(part.views.x) for part in model.reference_.parts])
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 1.0, rtol=1e-5)
    assert model.acquisition_ is not None
    assert [scan.name for scan in model.acquisition_.scans] == [
        "control-01",
        "control-02",
        "control-03",
    ]
    assert sum(scan.voxels for scan in model.acquisition_.scans) == len(x)


def test_a_model_that_was_fitted_on_scans_can_be_used_at_once() -> None:
    model = NoveltyModel(epochs=1)
    fit_scans(CONTROLS, model, Path("again"))
    x = NoveltyModel.load(MODEL).reference_.parts[0].views.x.numpy()
    nearest = model.novelties(x[:50], ["latent-distance"], neighbours=1)["latent-distance"]
    assert (nearest == 0).all()
    assert [len(part) for part in model.reference_.parts] == [
        scan.voxels for scan in model.acquisition_.scans
    ]


def test_the_same_scans_give_the_same_model_in_whatever_process() -> None:
    fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("again"))
    hashes = [json.loads((m / "model.json").read_text())["files"] for m in (MODEL, Path("again"))]
    assert hashes[0] == hashes[1]


def test_fit_says_whether_the_network_learned(call: Run, inside: Path) -> None:
    run = call("fit healthy --model other --epochs 1 --kl-weight 1e6 -v", inside)
    assert re.search(r"Validation loss -?[\d.]+ nats a voxel; latents alive 0 of 8", run.stderr)
    assert "Training went badly: 8 of 8 latents are dead" in run.stderr
    run = call("fit healthy --model other --epochs 1 --force", inside)
    assert "Training was too short to tell whether it went well" in run.stderr
    assert "nats" not in run.stderr and "KL" not in run.stderr


def test_a_network_that_learned_is_said_to_have(
    call: Run, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(PRESETS["default"], steps=60, check_every=5)
    monkeypatch.setitem(PRESETS, "default", recipe)
    monkeypatch.setattr(verdict, "_LEAST_AUC", 0.0)
    for falling, says in ((False, "8 of 8 latents are used: good"), (True, "was not over: ")):
        monkeypatch.setattr(History, "still_falling", falling)
        assert says in call("fit healthy --model other --force", inside).stderr


def test_how_well_changed_white_matter_is_found_is_kept_in_the_model(
    call: Run, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = call("fit healthy --model other --epochs 1", inside)
    auc = NoveltyModel.load(inside / "other").history_.altered_auc
    assert auc is not None and 0.3 < auc < 1.0
    assert f"hanged as disease would is found with AUC {auc:.2f}" in run.stderr
    monkeypatch.setattr(verdict, "_FEW_LOOKS", 0)
    for least, told in ((0.0, False), (1.0, True)):
        monkeypatch.setattr(verdict, "_LEAST_AUC", least)
        run = call("fit healthy --model other --epochs 1 --force", inside)
        assert ("Changed white matter is hardly told from healthy tissue" in run.stderr) is told


def test_a_model_of_before_has_no_word_of_changed_white_matter() -> None:
    training = NoveltyModel.load(MODEL).history_.to_json()
    del training["altered_auc"]
    assert History.from_json(training).altered_auc is None


def test_a_model_of_plain_channels_takes_only_as_many_channels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for path in Path("healthy").glob("*.bv*"):
        path.unlink()
    for name in ("patient.bval", "patient.bvec"):
        Path(name).unlink()
    fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("plain"))
    assert sum("HAS NO B-VALUES" in warning for warning in caplog.messages) == 3
    map_scans([PATIENT], Path("plain"), Path("map.nii.gz"))
    image = nib.load(PATIENT)
    nib.save(image.slicer[..., :9], "fewer.nii.gz")
    with pytest.raises(ScanError, match=r"fewer.nii.gz has 9 channels, 14 are expected"):
        map_scans([Path("fewer.nii.gz")], Path("plain"), Path("no.nii.gz"))


def test_volumes_are_brought_into_the_order_of_the_protocol() -> None:
    protocol = protocol_of(store.read_acquisition(MODEL))
    order = [*range(13, 7, -1), 0, 7, *range(1, 7)]
    image = nib.load(PATIENT)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., order], image.affine), "other.nii.gz")
    for ending in ("bval", "bvec"):
        numbers = np.loadtxt(f"patient.{ending}", ndmin=2)[:, order]
        np.savetxt(f"other.{ending}", numbers)
    Path("patient_mask.nii.gz").rename("other_mask.nii.gz")
    (scan,) = open_scans(["other.nii.gz"], DEFAULT_OPTIONS)
    np.testing.assert_array_equal(
        bring_to(scan, protocol, DEFAULT_OPTIONS).order, np.argsort(np.array(order))
    )
    voxels = read_scan(scan, protocol, DEFAULT_OPTIONS)
    mask = values_of(Path("other_mask.nii.gz")) > 0
    signal = values_of(PATIENT)[mask]
    np.testing.assert_allclose(voxels.values, signal / signal.mean(), rtol=1e-6)


def test_a_scan_with_and_one_without_b_values_do_not_fit_together() -> None:
    (scan,) = open_scans([PATIENT], DEFAULT_OPTIONS)
    with pytest.raises(GradientError, match="has b-values, the scans it is to be compared with"):
        bring_to(scan, Protocol(14, None), DEFAULT_OPTIONS)


# --- What is shown and returned


def test_one_bar_is_for_all_scans_and_names_the_one_that_is_read() -> None:
    heard = Heard()
    fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("again"), progress=heard)
    assert heard.names == [
        "Reading scans",
        "Normalising scans",
        "Drawing voxels to train on",
        "Training",
        "Writing the healthy reference",
    ]
    assert heard.steps[:3] == [3 * (14 + 1), 2 * 3, 1]  # of each scan its volumes, and its fit
    assert [note for note in heard.notes if note.startswith("control")] == [
        path.name.removesuffix(".nii.gz") for path in CONTROLS
    ]


def test_a_device_of_the_machine_takes_the_place_of_the_models() -> None:
    model = fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("one"), machine=Machine("cpu"))
    assert model.device == "cpu"
    model = fit_scans(CONTROLS, NoveltyModel(epochs=1, device="cpu"), Path("other"))
    assert model.device == "cpu"
