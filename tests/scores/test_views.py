"""What stands for a voxel, computed once, when it is looked at first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qspace_nd.gaussian import Gaussian
from qspace_nd.network.vae import VectorVAE
from qspace_nd.scores.views import SAMPLES, Noise, Views

ROWS, CHANNELS, LATENTS = 11, 5, 2
X = torch.rand(ROWS, CHANNELS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> VectorVAE:
    """A network that counts what it is asked for in `calls`."""
    network = VectorVAE(CHANNELS, LATENTS, (4,), "silu").eval().requires_grad_(False)
    network.calls = []  # type: ignore[assignment]

    def counted(name: str) -> Callable[[torch.Tensor], object]:
        call = getattr(network, name)

        def count(rows: torch.Tensor) -> object:
            network.calls.append(name)  # type: ignore[operator, union-attr]
            return call(rows)

        return count

    for name in ("encode", "decode"):
        monkeypatch.setattr(network, name, counted(name))
    return network


def test_each_view_is_computed_once_when_it_is_looked_at(network: VectorVAE) -> None:
    views = Views(network, X)
    assert len(views) == ROWS
    assert network.calls == []
    for _ in range(2):
        assert torch.equal(views.point("q_bar"), views.gaussian("q").mean)
        assert torch.equal(views.point("p_bar"), views.gaussian("p").mean)
        assert views.point("x") is X
    assert network.calls == ["encode", "decode"]


def test_views_are_those_of_the_network(network: VectorVAE) -> None:
    views = Views(network, X)
    torch.testing.assert_close(views.q.mean, network.encode(X).mean)
    torch.testing.assert_close(views.p.std, network.decode(views.q_bar).std)
    z = torch.ones(3, LATENTS)
    torch.testing.assert_close(views.decode(z).mean, network.decode(z).mean)


def test_rows_keep_known_posteriors_and_the_seed(network: VectorVAE) -> None:
    known = Views(network, X, Gaussian(X[:, :2], X[:, 2:4]), seed=3)
    some = known[4:6]
    assert torch.equal(some.x, X[4:6])
    assert torch.equal(some.q.std, X[4:6, 2:4])
    assert some.seed == 3
    assert network.calls == []
    unknown = Views(network, X)[4:6]
    assert network.calls == []
    assert torch.equal(unknown.q.mean, Views(network, X).q.mean[4:6])


def test_noise_is_that_of_the_seed_and_shared_by_all_voxels(network: VectorVAE) -> None:
    noise = Views(network, X, seed=7).noise
    assert (noise.z.shape, noise.x.shape) == ((SAMPLES, LATENTS), (SAMPLES, CHANNELS))
    assert torch.equal(noise.z, Views(network, X[:1], seed=7).noise.z)
    assert not torch.equal(noise.z, Views(network, X, seed=8).noise.z)
    state = torch.get_rng_state()
    Noise.draw(0, LATENTS, CHANNELS)
    assert torch.equal(torch.get_rng_state(), state)
