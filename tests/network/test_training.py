from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qspace_nd.errors import WorkError
from qspace_nd.network.history import History
from qspace_nd.network.image_vae import ImageVAE
from qspace_nd.network.objective import objective
from qspace_nd.network.recipes import PRESETS, Recipe
from qspace_nd.network.training import LEAST_PART, train
from qspace_nd.network.vae import VAE, VectorVAE
from qspace_nd.progress import SILENT, Progress, Task

ROWS, CHANNELS, LATENTS = 3000, 6, 3
TRAINING, VALIDATION = torch.arange(2500), torch.arange(2500, ROWS)
SHORT = replace(PRESETS["default"], steps=60, check_every=20, batch_size=1250)


def voxels() -> Tensor:
    """Signals of two dimensions in six channels, with noise: (n, C)."""
    noise = torch.Generator().manual_seed(0)
    factors = torch.randn(ROWS, 2, generator=noise)
    mixing = torch.randn(2, CHANNELS, generator=noise)
    return factors @ mixing + 0.1 * torch.randn(ROWS, CHANNELS, generator=noise)


def fit(
    recipe: Recipe,
    seed: int = 0,
    x: Tensor | None = None,
    progress: Progress = SILENT,
) -> tuple[VectorVAE, History]:
    torch.manual_seed(1)
    network = VectorVAE(CHANNELS, LATENTS, (16, 8), recipe.activation)
    x = voxels() if x is None else x
    history = train(network, x, TRAINING, VALIDATION, recipe, seed=seed, progress=progress)
    return network, history


def untrained(kind: str) -> tuple[Tensor, VAE]:
    """Rows, and a network for them."""
    torch.manual_seed(1)
    if kind == "vectors":
        return voxels(), VectorVAE(CHANNELS, LATENTS, (16, 8))
    return torch.rand(ROWS, 2 * 6 * 5), ImageVAE((2, 6, 5), LATENTS, (4, 3))


def same_weights(a: VAE, b: VAE) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def short() -> tuple[VectorVAE, History]:
    return fit(SHORT)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# --- Determinism


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_weights_do_not_depend_on_the_number_of_threads(kind: str, number: int) -> None:
    """Neither on how many find slopes nor on how many would share a sum; one part is short."""
    assert SHORT.batch_size % LEAST_PART
    x, network = untrained(kind)
    networks = network, copy.deepcopy(network)
    histories = []
    for threads, one in zip((1, number), networks, strict=True):
        torch.set_num_threads(threads)
        histories.append(train(one, x, TRAINING, VALIDATION, replace(SHORT, steps=20), seed=0))
        assert torch.get_num_threads() == threads
    assert same_weights(*networks)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("size", [100, 1250])
def test_a_batch_in_parts_is_learnt_from_as_a_whole(
    short: tuple[VectorVAE, History], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("qspace_nd.network.training.PARTS", 1250)
    monkeypatch.setattr("qspace_nd.network.training.LEAST_PART", size)
    history = fit(SHORT)[1]
    for found, expected in zip(history.losses, short[1].losses, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_training_is_a_plain_loop_of_pytorch_in_float64(kind: str) -> None:
    """All rows in a batch, which ours takes in parts: gains, schedule, clipping."""
    x, network = untrained(kind)
    recipe = replace(SHORT, steps=10, batch_size=len(TRAINING), check_every=10, gradient_norm=0.1)
    plain = copy.deepcopy(network)
    history = train(network, x, TRAINING, VALIDATION, recipe, seed=0)

    plain.standardise(x[TRAINING])
    plain = plain.double()
    optimiser = torch.optim.Adam(plain.parameters(), lr=recipe.rate, fused=False, foreach=False)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.steps, cycle_momentum=False
    )
    random = torch.Generator().manual_seed(0)
    held_out_noise = torch.randn(len(VALIDATION), LATENTS, generator=random)
    losses = []
    for _ in range(recipe.steps):
        order = torch.randperm(len(TRAINING), generator=random)
        gain = (recipe.gain_jitter * torch.randn(len(order), 1, generator=random)).exp()
        noise = torch.randn(len(order), LATENTS, generator=random)
        rows = (gain * x[order]).double()
        loss = objective(plain, rows, noise.double(), recipe.kl_weight).mean()
        optimiser.zero_grad()
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(plain.parameters(), recipe.gradient_norm) > 0.1
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-5)
    held_out = objective(plain, x[VALIDATION].double(), held_out_noise.double(), recipe.kl_weight)
    expected = recipe.steps, sum(losses) / recipe.steps, held_out.mean().item()
    assert history.losses == [pytest.approx(expected, rel=1e-5)]


def test_another_seed_gives_other_weights(short: tuple[VectorVAE, History]) -> None:
    assert not same_weights(fit(SHORT, seed=1)[0], short[0])


def test_global_chance_is_neither_used_nor_disturbed(short: tuple[VectorVAE, History]) -> None:
    torch.manual_seed(1)
    network = VectorVAE(CHANNELS, LATENTS, (16, 8))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    train(network, voxels(), TRAINING, VALIDATION, SHORT, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(network, short[0])


# --- What is learnt


def test_training_lowers_the_validation_loss(short: tuple[VectorVAE, History]) -> None:
    losses = [validation for _, _, validation in short[1].losses]
    assert losses[-1] < losses[0] - 0.5


def test_only_training_rows_are_learnt_from(short: tuple[VectorVAE, History]) -> None:
    x = voxels()
    x[VALIDATION] *= 3.0
    network, history = fit(replace(SHORT, check_every=SHORT.steps), x=x)
    plain, _ = fit(replace(SHORT, check_every=SHORT.steps))
    assert same_weights(network, plain)
    assert history.validation_loss > short[1].validation_loss


def test_the_best_weights_are_kept() -> None:
    """On noise the loss rises once the network trusts the structure of the training rows."""
    x = voxels()
    x[VALIDATION] = torch.randn(len(VALIDATION), CHANNELS, generator=torch.Generator())
    recipe = replace(SHORT, steps=120, check_every=5, rate=0.01, one_cycle=False)
    network, history = fit(recipe, x=x)
    best = min(history.losses, key=lambda entry: entry[2])
    assert 5 < history.best_step == best[0] < history.steps
    assert history.validation_loss == best[2]
    stopped, _ = fit(replace(recipe, steps=history.best_step), x=x)
    assert same_weights(network, stopped)


def test_a_weight_of_one_lets_more_latents_collapse_than_a_hundredth() -> None:
    longer = replace(SHORT, steps=300, check_every=100)
    alive = {weight: fit(replace(longer, kl_weight=weight))[1] for weight in (1.0, 0.01)}
    assert sum(alive[1.0].latent_kl) < sum(alive[0.01].latent_kl)
    assert alive[1.0].latents_alive <= alive[0.01].latents_alive == LATENTS


# --- When it ends


def test_the_budget_of_steps_is_kept(short: tuple[VectorVAE, History]) -> None:
    history = short[1]
    assert history.steps == SHORT.steps
    assert [step for step, _, _ in history.losses] == [20, 40, 60]


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_tiny_budget_still_has_a_look_at_its_end(steps: int) -> None:
    _, history = fit(replace(SHORT, steps=steps))
    assert [step for step, _, _ in history.losses] == [steps]


def test_the_recipe_of_the_paper_stops_early() -> None:
    paper = replace(PRESETS["paper"], check_every=5, rate=0.03, patience=4)
    _, history = fit(paper)
    assert history.steps < paper.steps
    assert history.steps == history.best_step + 20


@pytest.mark.parametrize("preset", PRESETS)
def test_a_loss_that_is_never_finite_is_a_work_error_at_once(preset: str) -> None:
    x = voxels()
    x[:, 0] = math.nan
    steps = CountedSteps()
    with pytest.raises(WorkError, match=r"did not converge.*never finite.*extreme values"):
        fit(replace(PRESETS[preset], standardise=True), x=x, progress=steps)
    assert steps.taken <= PRESETS[preset].check_every


# --- What is reported


class CountedSteps:
    """A listener that counts."""

    def __init__(self) -> None:
        self.taken = 0
        self.notes: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.taken += steps
        self.notes += [note] if note else []

    def say(self, message: str) -> None:
        raise AssertionError(message)

    warn = say


def test_progress_is_told_each_step_and_the_losses_at_each_look() -> None:
    steps = CountedSteps()
    fit(SHORT, progress=steps)
    assert steps.taken == SHORT.steps
    assert len(steps.notes) == 3
    assert steps.notes[-1] == f"{LATENTS} of {LATENTS} latent dimensions in use"


def test_one_validation_row_is_enough() -> None:
    torch.manual_seed(0)
    network = VectorVAE(CHANNELS, LATENTS, ())
    last = torch.tensor([ROWS - 1])
    history = train(network, voxels(), TRAINING, last, replace(SHORT, steps=2), seed=0)
    assert history.latents_alive == 0


# --- Gains


def test_a_network_that_saw_other_gains_reconstructs_a_scan_of_another_gain_better() -> None:
    noise = torch.Generator().manual_seed(0)
    mixing = torch.rand(1, CHANNELS, generator=noise)
    x = 2.0 + torch.rand(ROWS, 1, generator=noise) * mixing  # all of one gain
    x = x + 0.02 * torch.randn(ROWS, CHANNELS, generator=noise)
    errors = []
    for jitter in (0.0, 0.1):
        recipe = replace(PRESETS["default"], steps=300, batch_size=128, gain_jitter=jitter)
        vae, _ = fit(recipe, x=x)
        brighter = 1.2 * x
        errors.append((vae.decode(vae.encode(brighter).mean).mean - brighter).pow(2).mean().item())
    assert errors[1] < 0.85 * errors[0]
