"""The contract that every score of the catalogue keeps, and what shows the catalogue."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qspace_nd.errors import InputError
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy, as_part
from qspace_nd.scores import reference as reference_module
from qspace_nd.scores import scoring
from qspace_nd.scores.base import Cost, Search
from qspace_nd.scores.catalogue import CATALOGUE, PAPER, Entry, find_score, markdown_table
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.reconstruction import Regulariser
from qspace_nd.scores.reference import Reference
from tests.conftest import Run
from tests.scores.conftest import CHANNELS, LATENTS, Novelties, with_first, with_reference

Values = NDArray[np.float64]

NAMES = list(PAPER)


# The contract. Each function checks one line of it for one score.


def check_finite(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    assert s.shape == (len(x),)
    assert s.dtype == np.float32
    assert np.isfinite(s).all()


def check_chunks(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_CHUNK", 97)
        patch.setattr(scoring, "_NUMBERS", 0)
        np.testing.assert_array_equal(model.novelty(x, name), s)


def check_order(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_array_equal(model.novelty(x[order], name), s[order])


def check_alone(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    np.testing.assert_array_equal(model.novelty(x[201:202], name), s[201:202])


def check_threads(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 3)
    try:
        np.testing.assert_array_equal(model.novelty(x, name), s)
    finally:
        torch.set_num_threads(threads)


def check_anyhow(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    """The three above at once: where this fails, they tell which."""
    threads = torch.get_num_threads()
    order = np.random.default_rng(0).permutation(len(x))
    torch.set_num_threads(1 if threads > 1 else 3)
    try:
        check_chunks(name, model, x[order], s[order])
    finally:
        torch.set_num_threads(threads)


def check_blocks(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    """Without memory, the reference is searched a chunk at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_module, "ROWS", 53)
        patch.setattr(scoring, "remaining", lambda memory: 0)
        assert len(model.reference_.blocks(0)) > 5
        np.testing.assert_allclose(model.novelty(x, name), s, rtol=1e-6, atol=1e-6)


def check_higher_is_novel(
    name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values
) -> None:
    assert np.median(s[200:]) > np.median(s[:200])


CONTRACT = [check_finite, check_chunks, check_order, check_threads, check_alone]
CONTRACT += [check_blocks, check_higher_is_novel]
ON_IMAGES = [check_finite, check_anyhow, check_alone, check_blocks, check_higher_is_novel]


def each(checks: list[Callable[..., None]]) -> pytest.MarkDecorator:
    """Each check for each score; blocks where the reference is searched: no other score has any."""
    return pytest.mark.parametrize(
        ("name", "check"),
        [
            pytest.param(name, check, id=f"{name}-{check.__name__}")
            for name in NAMES
            for check in checks
            if check is not check_blocks or isinstance(CATALOGUE[name].score, Search)
        ],
    )


@each(CONTRACT)
def test_every_score_keeps_the_contract(
    name: str,
    check: Callable[..., None],
    trained: NoveltyModel,
    voxels: NDArray[np.float32],
    novelties: Novelties,
) -> None:
    check(name, trained, voxels, novelties[name])


@each(ON_IMAGES)
def test_every_score_keeps_the_contract_on_images(
    name: str,
    check: Callable[..., None],
    trained_on_images: NoveltyModel,
    images: NDArray[np.float32],
    novelties_of_images: Novelties,
) -> None:
    check(name, trained_on_images, images, novelties_of_images[name])


# Degenerate inputs.


def dead(model: NoveltyModel, latents: slice) -> NoveltyModel:
    """The model with latents whose posterior is the unit Gaussian everywhere."""
    other = copy.copy(model)
    other.network_ = copy.deepcopy(model.network_)
    last, first = other.network_.encoder[-1], other.network_.decoder[0]
    for half in last.weight.view(2, LATENTS, -1), last.bias.view(2, LATENTS):
        half[:, latents] = 0.0
    first.weight[:, latents] = 0.0
    parts = [
        as_part(Healthy(part.subject, part.views.x.numpy()), other.network_)
        for part in model.reference_.parts
    ]
    return with_reference(other, Reference(parts))


@pytest.mark.parametrize("latents", [slice(1, 2), slice(None)], ids=["one", "all"])
def test_dead_latents_leave_every_score_finite(
    latents: slice, trained: NoveltyModel, voxels: NDArray[np.float32]
) -> None:
    model = dead(trained, latents)
    assert (model.encode(voxels[:1]).std[:, latents] == 1.0).all()
    for name, novelty in model.novelties(voxels[::10], NAMES).items():
        assert np.isfinite(novelty).all(), name


def test_a_reference_of_one_voxel_is_enough(
    trained: NoveltyModel, voxels: NDArray[np.float32]
) -> None:
    model = with_first(trained, 1)
    for name, novelty in model.novelties(voxels[::10], NAMES).items():
        assert np.isfinite(novelty).all(), name


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("name", NAMES)
def test_an_outlier_is_more_novel_than_any_voxel_and_a_farther_one_still_more(
    name: str, direction: float, trained: NoveltyModel, novelties: Novelties
) -> None:
    far = direction * np.array([[1e3], [1e6]], np.float32) * np.ones(CHANNELS, np.float32)
    far[:, ::2] *= -1  # not along the mean signal
    near, farther = trained.novelty(far, name)
    assert np.isfinite([near, farther]).all()
    assert novelties[name][:200].max() < near < farther


# The catalogue.


def test_the_catalogue_names_the_27_scores_of_the_paper_in_its_order() -> None:
    assert NAMES == [
        "input-distance",
        "latent-kl",
        "latent-distance",
        "latent-bhattacharyya",
        "latent-density",
        "recon-error",
        "recon-likelihood",
        "recon-error-qhat",
        "recon-likelihood-qhat",
        "recon-error-phat",
        "recon-error-qhat-phat",
        "recon-error-qhat-min",
        "recon-likelihood-qhat-min",
        "recon-error-phat-min",
        "recon-error-qhat-phat-min",
        "output-distance",
        "output-bhattacharyya",
        "output-density",
        "input-output-distance",
        "input-output-density",
        "output-input-distance",
        "generated-error",
        "generated-error-bounded",
        "generated-likelihood",
        "generated-likelihood-bounded",
        "neg-elbo",
        "neg-elbo-qhat",
    ]


def test_a_made_up_score_takes_one_line_and_shows_up_everywhere(
    trained: NoveltyModel,
    voxels: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    call: Run,
    folder: Path,
) -> None:
    line = Entry("N made up", "KL(q(x)) + min_y |x - y|", Regulariser() + Nearest("x", "x"))
    monkeypatch.setitem(CATALOGUE, "made-up", line)
    novelty = trained.novelty(voxels, "made-up")
    for check in CONTRACT:
        check("made-up", trained, voxels, novelty)
    listed = next(line for line in call("scores", folder).stdout.splitlines() if "made-up" in line)
    assert listed.split() == [
        "made-up",
        "N",
        "made",
        "up",
        "KL(q(x))",
        "+",
        "min_y",
        "|x",
        "-",
        "y|",
        "Regulariser",
        "+",
        "Nearest",
        "search",
    ]
    assert "| `made-up` | N made up |" in markdown_table()
    assert call("map patient.nii.gz -o made-up.nii.gz --score made-up", folder).status == 0
    assert (folder / "made-up.nii.gz").exists()


def test_the_command_lists_every_score_with_its_symbol_equation_family_and_cost(
    call: Run, tmp_path: Path
) -> None:
    outcome = call("scores", tmp_path)
    assert outcome.status == 0
    for name, entry in CATALOGUE.items():
        words = [name, entry.symbol, entry.equation, entry.family, entry.cost.label]
        assert " ".join(" ".join(words).split()) in [
            " ".join(line.split()) for line in outcome.stdout.splitlines()
        ]
    for cost in Cost:
        assert cost.meaning in outcome.stdout


def test_the_documentation_shows_the_catalogue() -> None:
    page = Path(__file__).parents[2] / "docs/scores.md"
    assert markdown_table() in page.read_text(encoding="utf-8")


def test_an_unknown_score_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InputError, match=r"no score 'novelty'; the scores are: input-distance,"):
        find_score("novelty")
