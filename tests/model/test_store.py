from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from qspace_nd import NoveltyModel
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import ModelError, OutputError
from qspace_nd.imaging.acquisition import Acquisition, HealthyScan
from qspace_nd.model import part_file, store
from qspace_nd.system.hashing import hash_of_file


def voxels(rows: int = 300, channels: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, channels))
    return (1 + 0.1 * signal + 0.02 * rng.normal(size=(rows, channels))).astype(np.float32)


def fitted(seed: int = 0, **settings: Any) -> NoveltyModel:
    groups = np.repeat(["a", "b", "c"], 100)
    table = GradientTable(np.array([0.0, 1, 1, 1, 1]) * 1000, np.eye(5, 3, -1))
    scans = tuple(HealthyScan(f"scan-{name}", name, f"digest-{name}", 100) for name in "abc")
    means = np.linspace(0.1, 1.3, 5, dtype=np.float32)
    model = NoveltyModel(**({"latents": 2, "hidden": (8,), "epochs": 2, "seed": seed} | settings))
    return model.fit(voxels(), groups=groups, acquisition=Acquisition(means, table, scans))


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    return fitted()


@pytest.fixture(scope="module")
def other() -> NoveltyModel:
    return fitted(seed=1)


@pytest.fixture(scope="module")
def saved(model: NoveltyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nothing may be written to."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def scores(model: NoveltyModel) -> np.ndarray:
    return model.novelty(voxels(50, seed=9))


def alter_index(folder: Path, change: Callable[[dict[str, Any]], None], *, sign: bool) -> None:
    path = folder / "model.json"
    index = json.loads(path.read_text())
    change(index)
    if sign:
        index["hash"] = store._hash_of_index(index)
    path.write_text(json.dumps(index))


# --- Round trip


def test_a_model_is_the_same_bits_after_saving_and_loading(
    model: NoveltyModel, saved: Path
) -> None:
    loaded = NoveltyModel.load(saved)
    weights = model.network_.state_dict()
    assert weights.keys() == loaded.network_.state_dict().keys()
    for name, tensor in loaded.network_.state_dict().items():
        assert torch.equal(tensor, weights[name])
    for ours, theirs in zip(model.reference_.parts, loaded.reference_.parts, strict=True):
        assert ours.subject == theirs.subject
        for mine, yours in [
            (ours.views.x, theirs.views.x),
            (ours.views.q.mean, theirs.views.q.mean),
            (ours.views.q.std, theirs.views.q.std),
        ]:
            assert torch.equal(mine, yours)
    np.testing.assert_array_equal(scores(loaded), scores(model))
    assert loaded.history_ == model.history_
    assert not any(weight.requires_grad for weight in loaded.network_.parameters())


def test_the_acquisition_is_kept_to_the_bit(model: NoveltyModel, saved: Path) -> None:
    found, kept = NoveltyModel.load(saved).acquisition_, model.acquisition_
    assert found is not None
    assert kept is not None
    assert found.gradients is not None
    assert kept.gradients is not None
    np.testing.assert_array_equal(found.channel_means, kept.channel_means)
    np.testing.assert_array_equal(found.gradients.bvals, kept.gradients.bvals)
    np.testing.assert_array_equal(found.gradients.directions, kept.gradients.directions)
    assert found.scans == kept.scans
    assert found.subject_of("digest-b") == "b"
    assert found.subject_of("unknown") is None


def test_a_model_of_arrays_has_no_acquisition(tmp_path: Path) -> None:
    arrays = NoveltyModel(latents=1, hidden=(), epochs=1).fit(voxels())
    arrays.save(tmp_path / "model")
    assert NoveltyModel.load(tmp_path / "model").acquisition_ is None


def test_a_model_of_images_scores_as_before_it_was_saved(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((40, 2, 5, 6), np.float32)
    model = NoveltyModel(latents=2, hidden=(4,), epochs=2, decision_score="recon-error").fit(x)
    model.save(tmp_path / "model")
    loaded = NoveltyModel.load(tmp_path / "model")
    assert loaded.get_params() | {"hidden": (4,)} == model.get_params()
    for score in ("recon-error", "latent-distance", "input-output-distance"):
        np.testing.assert_array_equal(loaded.novelty(x[::-1], score), model.novelty(x[::-1], score))


def test_settings_of_numpy_are_stored_as_plain_numbers(tmp_path: Path) -> None:
    settings = {"latents": np.int64(2), "hidden": np.array([8]), "kl_weight": np.float32(0.5)}
    fitted(**settings).save(tmp_path / "model")
    loaded = NoveltyModel.load(tmp_path / "model")
    assert (loaded.latents, loaded.hidden, loaded.kl_weight) == (2, [8], 0.5)


def test_the_hash_is_that_of_the_content(
    model: NoveltyModel, other: NoveltyModel, tmp_path: Path, saved: Path
) -> None:
    first = model.save(tmp_path / "first")
    assert first == store.read_index(saved)["hash"]
    assert other.save(tmp_path / "other") != first
    assert files_of(tmp_path / "first") == files_of(saved)


def test_saving_leaves_only_what_the_index_lists(saved: Path) -> None:
    index = json.loads((saved / "model.json").read_text())
    assert files_of(saved).keys() == {"model.json", *index["files"]}
    assert index["schema"] == store.SCHEMA
    assert {"torch", "numpy", "qspace-nd", "python"} <= index["software"].keys()


def test_what_is_written_to_a_loaded_reference_stays_in_memory(folder: Path) -> None:
    before = files_of(folder)
    part = store.load(folder).reference.parts[0]
    part.views.x[0, 0] = 99.0
    assert files_of(folder) == before


def test_a_model_can_be_saved_over_itself(folder: Path) -> None:
    before = scores(NoveltyModel.load(folder))
    loaded = NoveltyModel.load(folder)
    loaded.save(folder, force=True)
    np.testing.assert_array_equal(scores(loaded), before)
    np.testing.assert_array_equal(scores(NoveltyModel.load(folder)), before)


def test_no_pickle_is_ever_read(folder: Path) -> None:
    """What `torch.load` would unpickle is refused, even where its hash is right."""
    bomb = folder / "bomb"
    torch.save({"weight": print}, bomb)
    name = f"weights-{hash_of_file(bomb)}.safetensors"
    bomb.rename(folder / name)

    def change(index: dict[str, Any]) -> None:
        index["files"][name] = (folder / name).stat().st_size
        index["weights"] = name

    alter_index(folder, change, sign=True)
    with pytest.raises(ModelError, match="holds no weights"):
        NoveltyModel.load(folder)


# --- What is refused when loading


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no model in .*gone: it does not exist; fit"):
        NoveltyModel.load(tmp_path / "gone")


def test_a_folder_without_an_index_is_named(folder: Path) -> None:
    (folder / "model.json").unlink()
    with pytest.raises(ModelError, match=r"There is no model in .*: it has no model\.json; fit"):
        NoveltyModel.load(folder)


@pytest.mark.parametrize("kind", ["weights-", "reference/"])
def test_a_missing_file_is_named(folder: Path, kind: str) -> None:
    next(folder.glob(f"{kind}*")).unlink()
    with pytest.raises(ModelError, match=rf"incomplete: {kind}\w+\.\w+ is missing"):
        NoveltyModel.load(folder)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *product(["weights-"], ["flip", "truncate", "append", "empty"]),
        *product(["reference/"], ["truncate", "append", "empty"]),
    ],
)
def test_an_altered_file_is_named(folder: Path, kind: str, how: str) -> None:
    path = next(folder.glob(f"{kind}*"))
    data = path.read_bytes()
    changed = {
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "truncate": data[:-1],
        "append": data + b"\0",
        "empty": b"",
    }[how]
    path.write_bytes(changed)
    with pytest.raises(ModelError, match=rf"{re.escape(path.name)} was altered"):
        NoveltyModel.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["settings"].update(latents=3),
        lambda index: index["acquisition"]["channel_means"].__setitem__(0, 0.5),
        lambda index: index["files"].clear(),
        lambda index: index.update(hash="0" * 32),
        lambda index: index.pop("training"),
    ],
)
def test_an_altered_index_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    alter_index(folder, change, sign=False)
    with pytest.raises(ModelError, match=r"model\.json was altered after it was written"):
        NoveltyModel.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"{}", b'{"schema": "one", "hash": ""}', b"\xff\xfe"]
)
def test_an_index_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json is not a model's index"):
        NoveltyModel.load(folder)


def test_an_index_that_may_not_be_read_is_no_reason_to_fit_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **how: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ModelError, match=r"index \(Permission denied\); check the file"):
        NoveltyModel.load(folder)


def test_a_part_that_may_not_be_looked_at_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ModelError, match=r"safetensors cannot be read \(Permission denied\)"):
        NoveltyModel.load(folder)


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    alter_index(folder, lambda index: index.update(schema=store.SCHEMA + 1), sign=True)
    with pytest.raises(ModelError, match=rf"reads up to {store.SCHEMA}; upgrade qspace-nd"):
        NoveltyModel.load(folder)


def test_an_older_schema_asks_for_a_new_fit_which_removes_the_old_files(
    folder: Path, other: NoveltyModel
) -> None:
    alter_index(folder, lambda index: index.update(schema=1), sign=True)
    old = folder / f"reference/q_mean-{'0' * 32}.npy"
    old.touch()
    with pytest.raises(
        ModelError, match=r"model\.json has schema 1, .*older.*: fit the model again"
    ):
        NoveltyModel.load(folder)
    other.save(folder, force=True)
    assert not old.exists()


# --- Saving over a model


def test_a_model_is_not_overwritten_without_force(
    saved: Path, folder: Path, other: NoveltyModel
) -> None:
    with pytest.raises(OutputError, match=r"holds a model already; .*--model.*--force"):
        other.save(folder)
    assert files_of(folder) == files_of(saved)


def test_the_lock_of_a_save_that_was_killed_at_its_end_goes_with_the_next(
    folder: Path, other: NoveltyModel
) -> None:
    lock = folder / store._LOCK
    lock.touch()
    with pytest.raises(OutputError, match="holds a model already"):
        other.save(folder)
    assert not lock.exists()


def test_a_forced_save_leaves_nothing_of_the_old_model(
    folder: Path, other: NoveltyModel, tmp_path: Path
) -> None:
    other.save(folder, force=True)
    other.save(tmp_path / "fresh")
    assert files_of(folder) == files_of(tmp_path / "fresh")


class Killed(BaseException):
    """What no handler of errors catches."""


RENAMES = 1 + 3 + 1  # the weights, a file of each of three subjects, the index


@pytest.mark.parametrize("fatal", range(RENAMES + 1))
def test_a_save_that_is_killed_at_any_write_leaves_a_whole_model(
    model: NoveltyModel,
    other: NoveltyModel,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fatal: int,
) -> None:
    """Every file comes into its place by `Path.replace`; only the last one makes a new model."""
    renames = 0
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal renames
        if renames == fatal:
            raise Killed
        renames += 1
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", replace)
        other.save(folder, force=True)
        raise Killed
    assert renames == fatal
    expected = other if fatal == RENAMES else model
    np.testing.assert_array_equal(scores(NoveltyModel.load(folder)), scores(expected))
    other.save(folder, force=True)
    assert files_of(folder).keys() == {"model.json", *store.read_index(folder)["files"]}


def half(content: object, path: Path, *more: object) -> None:
    """Write as `write_tensors` does, and be killed in the middle."""
    path.write_bytes(b"half")
    raise Killed


def kill(*arguments: object, **named: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("module", "name", "die"),
    [
        (part_file, "write_tensors", half),
        (part_file, "hash_of", kill),
        (store, "_hash_of_index", kill),
    ],
    ids=["half a part", "a part", "the index"],
)
def test_what_a_killed_save_leaves_is_removed_by_the_next(
    model: NoveltyModel,
    other: NoveltyModel,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    die: Callable[..., None],
) -> None:
    """A signal that no handler sees leaves temporary files behind."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, name, die)
        patch.setattr(Path, "unlink", lambda *arguments, **options: None)
        other.save(folder, force=True)
    np.testing.assert_array_equal(scores(NoveltyModel.load(folder)), scores(model))
    other.save(folder, force=True)
    other.save(tmp_path / "fresh")
    assert files_of(folder) == files_of(tmp_path / "fresh")


def test_a_first_save_that_is_killed_leaves_no_model_and_can_be_repeated(
    model: NoveltyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(part_file, "write_tensors", half)
        model.save(folder)
    with pytest.raises(ModelError, match="There is no model"):
        NoveltyModel.load(folder)
    model.save(folder)
    np.testing.assert_array_equal(scores(NoveltyModel.load(folder)), scores(model))


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited on POSIX alone")
def test_a_full_disk_is_a_work_error_and_leaves_the_old_model(
    model: NoveltyModel, folder: Path
) -> None:
    """The limits are met by the weights, by a part of the reference and by the index."""
    code = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from qspace_nd.model import store
from qspace_nd.errors import WorkError
stored = store.load(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
largest = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in (100, 2500, 4500):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, largest))
    try:
        store.save(Path(sys.argv[1]), replace(stored, settings={"note": 4000 * "-"}), force=True)
    except WorkError as error:
        print(error)
"""
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = done.stdout.splitlines()
    assert len(told) == 3, done.stderr
    for line, name in zip(told, ["/weights-", "/reference/", "/model.json"], strict=True):
        assert re.search(rf"{name}[\w.]* could not be written .*too large", line)
    np.testing.assert_array_equal(scores(NoveltyModel.load(folder)), scores(model))


# --- Other people's files


@pytest.mark.parametrize(
    "stranger", ["thesis.docx", "reference/atlas.nii.gz", "weights-notes.txt", "masks/p1.nii.gz"]
)
def test_a_folder_with_other_files_is_refused(
    model: NoveltyModel, tmp_path: Path, stranger: str
) -> None:
    path = tmp_path / "study" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"study holds other files, .* for one; name a new"):
            model.save(tmp_path / "study", force=force)
    assert list(files_of(tmp_path / "study")) == [stranger]


@pytest.mark.parametrize(
    "stranger", ["notes.txt", "reference/atlas.nii.gz", "weights-notes.txt", "masks/p1.nii.gz"]
)
def test_other_files_in_a_model_folder_are_never_removed(
    other: NoveltyModel, folder: Path, stranger: str
) -> None:
    (folder / stranger).parent.mkdir(exist_ok=True)
    (folder / stranger).write_text("precious")
    other.save(folder, force=True)
    assert (folder / stranger).read_text() == "precious"


def test_hidden_files_of_the_system_are_no_strangers(model: NoveltyModel, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".DS_Store").touch()
    model.save(tmp_path / "model")
    assert (tmp_path / "model" / ".DS_Store").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(model: NoveltyModel, tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(OutputError, match="is a file; name a folder"):
        model.save(tmp_path / "model", force=True)


def test_the_check_before_work_creates_nothing(tmp_path: Path) -> None:
    store.require_new(tmp_path / "deep" / "model", force=False)
    assert not list(tmp_path.iterdir())
