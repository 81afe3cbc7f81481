"""The contract that every score of the catalogue keeps, and the laws between scores."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from qspace_nd.scores.base import Cost
from qspace_nd.scores.catalogue import CATALOGUE, Entry, find_score, markdown_table
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.reconstruction import Reconstruction, Regulariser, bar, error_bar, least
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Noise
from tests.conftest import Run

Values = NDArray[np.float64]
Novelties = dict[str, NDArray[np.float32]]

CHANNELS, LATENTS = 12, 4
NAMES = list(CATALOGUE)
MINIMA = [name for name in NAMES if name.endswith("-min")]


def signals(number: int, seed: int) -> NDArray[np.float32]:
    """Voxels of 12 channels about 1: a curved sheet of three dimensions, and noise."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, CHANNELS))
    sheet = np.tanh(rng.normal(size=(number, 3)) @ mixing)
    return (1.0 + 0.3 * sheet + 0.03 * rng.normal(size=sheet.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> NoveltyModel:
    """A small model of 1,500 healthy voxels, trained to be useful."""
    model = NoveltyModel(
        latents=LATENTS, hidden=(24, 12), epochs=400, neighbours=1, seed=5, device="cpu"
    )
    return model.fit(signals(1500, seed=0), groups=np.repeat(["a", "b", "c"], 500))


@pytest.fixture(scope="module")
def voxels() -> NDArray[np.float32]:
    """260 voxels, more than a block of the optimiser: healthy ones and, from 200 on, novel ones."""
    novel = signals(60, seed=2) + np.random.default_rng(3).normal(size=(60, CHANNELS)) * 0.5
    return np.concatenate([signals(200, seed=1), novel]).astype(np.float32)


@pytest.fixture(scope="module")
def novelties(trained: NoveltyModel, voxels: NDArray[np.float32]) -> Novelties:
    """All scores of the voxels."""
    return trained.novelties(voxels, NAMES)


def with_reference(model: NoveltyModel, reference: Reference) -> NoveltyModel:
    other = copy.copy(model)
    other.reference_ = reference
    return other


def with_first(model: NoveltyModel, number: int) -> NoveltyModel:
    """The model with a reference of its first `number` voxels."""
    return with_reference(model, Reference([replace(model.reference_.parts[0], stop=number)]))


def drawings(number: int, seed: int) -> NDArray[np.float32]:
    """Images of two planes of 9 x 8 pixels in [0, 1]: a blob each, anywhere, and noise."""
    rng = np.random.default_rng(seed)
    line, column = rng.uniform(1, 7, size=(2, number, 1, 1, 1))
    height, width = np.arange(9)[:, None], np.arange(8)
    blob = np.exp(-((height - line) ** 2 + (width - column) ** 2) / 4)
    noise = 0.02 * rng.random((number, 2, 9, 8))
    return np.clip(np.concatenate([blob, 0.5 * blob], axis=1) + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def trained_on_images() -> NoveltyModel:
    """A small model of 400 images."""
    model = NoveltyModel(latents=3, hidden=(8, 8), epochs=100, seed=5, device="cpu")
    return model.fit(drawings(400, seed=0), groups=np.repeat(["a", "b"], 200))


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """230 images: healthy ones and, from 200 on, novel ones, dark on bright."""
    return np.concatenate([drawings(200, seed=1), 1 - drawings(30, seed=2)])


@pytest.fixture(scope="module")
def novelties_of_images(trained_on_images: NoveltyModel, images: NDArray[np.float32]) -> Novelties:
    """All scores of the images."""
    return trained_on_images.novelties(images, NAMES)


# The contract. Each function checks one line of it for one score.


def check_finite(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    assert s.shape == (len(x),)
    assert s.dtype == np.float32
    assert np.isfinite(s).all()


def check_chunks(name: str, model: NoveltyModel, x: NDArray[np.float32], s: Values) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_CHUNK", 97)
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


CONTRACT = [
    check_finite,
    check_chunks,
    check_order,
    check_alone,
    check_threads,
    check_blocks,
    check_higher_is_novel,
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_score_keeps_the_contract(
    name: str,
    check: Callable[..., None],
    trained: NoveltyModel,
    voxels: NDArray[np.float32],
    novelties: Novelties,
) -> None:
    check(name, trained, voxels, novelties[name])


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_score_keeps_the_contract_on_images(
    name: str,
    check: Callable[..., None],
    trained_on_images: NoveltyModel,
    images: NDArray[np.float32],
    novelties_of_images: Novelties,
) -> None:
    check(name, trained_on_images, images, novelties_of_images[name])


# The equations, in float64, one voxel and one healthy voxel at a time.


@dataclass
class Equations:
    """One voxel's scores, written from their equations."""

    network: torch.nn.Module
    healthy: Values
    seed: int

    def posterior(self, x: Values) -> tuple[Values, Values]:
        q = self.network.encode(torch.from_numpy(x))
        return q.mean.numpy(), q.std.numpy()

    def likelihood(self, z: Values) -> tuple[Values, Values]:
        p = self.network.decode(torch.from_numpy(z))
        return p.mean.numpy(), p.std.numpy()

    def output(self, x: Values) -> tuple[Values, Values]:
        return self.likelihood(self.posterior(x)[0])

    def samples(self, x: Values, *, hat: bool) -> list[tuple[Values, Values, Values]]:
        """Mean and standard deviation of each p(z_i), and x_i."""
        noise = Noise.draw(self.seed, LATENTS, CHANNELS)
        mean, std = self.posterior(x)
        drawn = []
        for of_z, of_x in zip(noise.z.double().numpy(), noise.x.double().numpy(), strict=True):
            m, s = self.likelihood(mean + std * of_z if hat else mean)
            drawn.append((m, s, m + s * of_x))
        return drawn


def distance(a: Values, b: Values) -> float:
    return float(np.sqrt(sum((i - j) ** 2 for i, j in zip(a, b, strict=True))))


def log_density(x: Values, mean: Values, std: Values) -> float:
    return float(
        sum(
            -((i - m) ** 2) / (2 * s**2) - np.log(s * np.sqrt(2 * np.pi))
            for i, m, s in zip(x, mean, std, strict=True)
        )
    )


def overlap(p: tuple[Values, Values], q: tuple[Values, Values]) -> float:
    return float(
        sum(
            (m - n) ** 2 / (4 * (s**2 + t**2)) + np.log((s**2 + t**2) / (2 * s * t)) / 2
            for m, s, n, t in zip(*p, *q, strict=True)
        )
    )


def divergence(q: tuple[Values, Values]) -> float:
    return float(sum((m**2 + s**2 - 1) / 2 - np.log(s) for m, s in zip(*q, strict=True)))


def minus_log_mean(logarithms: list[float]) -> float:
    return float(np.log(len(logarithms)) - np.logaddexp.reduce(logarithms))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def recon_errors(e: Equations, x: Values) -> list[float]:
    return [distance(x, m) for m, _, _ in e.samples(x, hat=True)]


def recon_likelihoods(e: Equations, x: Values) -> list[float]:
    return [-log_density(x, m, s) for m, s, _ in e.samples(x, hat=True)]


def sampled_errors(e: Equations, x: Values, *, hat: bool) -> list[float]:
    return [distance(x, drawn) for _, _, drawn in e.samples(x, hat=hat)]


EQUATIONS: dict[str, Callable[[Equations, Values], float]] = {
    "input-distance": lambda e, x: min(distance(x, y) for y in e.healthy),
    "latent-kl": lambda e, x: divergence(e.posterior(x)),
    "latent-distance": lambda e, x: min(
        distance(e.posterior(x)[0], e.posterior(y)[0]) for y in e.healthy
    ),
    "latent-bhattacharyya": lambda e, x: min(
        overlap(e.posterior(x), e.posterior(y)) for y in e.healthy
    ),
    "latent-density": lambda e, x: minus_log_mean(
        [log_density(e.posterior(x)[0], *e.posterior(y)) for y in e.healthy]
    ),
    "recon-error": lambda e, x: distance(x, e.output(x)[0]),
    "recon-likelihood": lambda e, x: -log_density(x, *e.output(x)),
    "recon-error-qhat": lambda e, x: mean(recon_errors(e, x)),
    "recon-likelihood-qhat": lambda e, x: mean(recon_likelihoods(e, x)),
    "recon-error-phat": lambda e, x: mean(sampled_errors(e, x, hat=False)),
    "recon-error-qhat-phat": lambda e, x: mean(sampled_errors(e, x, hat=True)),
    "recon-error-qhat-min": lambda e, x: min(recon_errors(e, x)),
    "recon-likelihood-qhat-min": lambda e, x: min(recon_likelihoods(e, x)),
    "recon-error-phat-min": lambda e, x: min(sampled_errors(e, x, hat=False)),
    "recon-error-qhat-phat-min": lambda e, x: min(sampled_errors(e, x, hat=True)),
    "output-distance": lambda e, x: min(
        distance(e.output(x)[0], e.output(y)[0]) for y in e.healthy
    ),
    "output-bhattacharyya": lambda e, x: min(overlap(e.output(x), e.output(y)) for y in e.healthy),
    "output-density": lambda e, x: minus_log_mean(
        [log_density(e.output(x)[0], *e.output(y)) for y in e.healthy]
    ),
    "input-output-distance": lambda e, x: min(distance(x, e.output(y)[0]) for y in e.healthy),
    "input-output-density": lambda e, x: minus_log_mean(
        [log_density(x, *e.output(y)) for y in e.healthy]
    ),
    "output-input-distance": lambda e, x: min(distance(e.output(x)[0], y) for y in e.healthy),
    "neg-elbo": lambda e, x: divergence(e.posterior(x)) + recon_likelihoods(e, x)[0],
    "neg-elbo-qhat": lambda e, x: divergence(e.posterior(x)) + mean(recon_likelihoods(e, x)),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_score_is_its_equation_in_float64(
    name: str, trained: NoveltyModel, voxels: NDArray[np.float32]
) -> None:
    model = with_first(trained, 40)
    network = copy.deepcopy(trained.network_).double()
    healthy = model.reference_.parts[0].views.x.double().numpy()
    equations = Equations(network, healthy, trained.seed)
    some = np.concatenate([voxels[:3], voxels[-5:]])
    expected = [EQUATIONS[name](equations, x) for x in some.astype(np.float64)]
    np.testing.assert_allclose(
        model.novelty(some, name), expected, atol=1e-4, rtol=1e-4, err_msg=name
    )


def test_every_score_but_the_generated_ones_has_an_equation_here() -> None:
    generated = {name for name in NAMES if CATALOGUE[name].family == "Generated"}
    assert set(NAMES) == set(EQUATIONS) | generated


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


# The laws between scores.


@pytest.mark.parametrize("name", MINIMA)
def test_a_minimum_is_at_most_its_mean(name: str, novelties: Novelties) -> None:
    assert (novelties[name] <= novelties[name.removesuffix("-min")]).all()


@pytest.mark.parametrize("kind", ["error", "likelihood"])
def test_the_closest_generated_sample_is_at_most_as_far_as_the_reconstruction(
    kind: str, novelties: Novelties
) -> None:
    assert (novelties[f"generated-{kind}"] <= novelties[f"recon-{kind}"]).all()


@pytest.mark.parametrize("kind", ["error", "likelihood"])
def test_what_all_latents_generate_is_at_most_as_far_as_what_the_box_does(
    kind: str, novelties: Novelties
) -> None:
    assert (novelties[f"generated-{kind}"] <= novelties[f"generated-{kind}-bounded"]).all()


@pytest.mark.parametrize(
    "name",
    [
        "input-distance",
        "latent-distance",
        "latent-bhattacharyya",
        "output-distance",
        "output-bhattacharyya",
    ],
)
def test_a_voxel_of_the_reference_is_at_distance_0(name: str, trained: NoveltyModel) -> None:
    known = trained.reference_.parts[1].views.x[100:140].numpy()
    np.testing.assert_array_equal(trained.novelty(known, name), 0.0)


def test_the_negative_elbo_is_the_sum_of_its_terms(novelties: Novelties) -> None:
    total = novelties["latent-kl"].astype(np.float64) + novelties["recon-likelihood-qhat"]
    np.testing.assert_allclose(novelties["neg-elbo-qhat"], total, rtol=1e-6, atol=1e-5)


def test_samples_follow_the_seed_of_the_model(
    trained: NoveltyModel, voxels: NDArray[np.float32], novelties: Novelties
) -> None:
    other = copy.copy(trained)
    other.seed = trained.seed + 1
    name = "recon-error-qhat"
    assert (other.novelty(voxels, name) != novelties[name]).mean() > 0.9


def test_a_subject_can_be_left_out_of_the_reference(trained: NoveltyModel) -> None:
    known = trained.reference_.parts[1].views.x[:20].numpy()
    for name, entry in CATALOGUE.items():
        compared = entry.family in {"Nearest", "NearestGaussian", "Density"}
        changed = trained.novelty(known, name) != trained.novelty(known, name, leave_out="b")
        assert changed.any() == compared, name


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


@pytest.mark.parametrize("name", ["README.md", "docs/scores.md"])
def test_the_documentation_shows_the_catalogue(name: str) -> None:
    page = Path(__file__).parents[2] / name
    assert markdown_table() in page.read_text(encoding="utf-8")


def test_a_sum_costs_as_much_as_its_dearer_term() -> None:
    cheap = Regulariser() + Reconstruction(bar, error_bar, least)
    assert cheap.cost is Cost.CHEAP
    assert (cheap + Nearest("x", "x")).cost is Cost.SEARCH
    assert (cheap + Nearest("x", "x")).family == "Regulariser + Reconstruction + Nearest"


def test_an_unknown_score_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InputError, match=r"no score 'novelty'; the scores are: input-distance,"):
        find_score("novelty")
