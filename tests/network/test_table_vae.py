"""The network of few rows: it begins as principal components."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA

from qspace_nd.network.image_vae import network_again, network_for
from qspace_nd.network.table_vae import TableVAE, directions


def rows(number: int = 200, columns: int = 6, seed: int = 0) -> torch.Tensor:
    """Rows that vary most along few directions, around 5."""
    random = torch.Generator().manual_seed(seed)
    spread = torch.tensor([10.0, 5, 2, 0.1, 0.05, 0.02])[:columns]
    turned = torch.linalg.qr(torch.randn(columns, columns, generator=random)).Q
    return 5 + torch.randn(number, columns, generator=random) * spread @ turned


def begun(x: torch.Tensor, latents: int = 3) -> TableVAE:
    network = TableVAE((x.shape[1],), latents, (8, 4))
    network.standardise(x)
    return network


def test_before_training_latents_are_the_principal_components_in_one_scale() -> None:
    x = rows()
    network = begun(x)
    with torch.no_grad():
        found = network.encode(x).mean
    wanted = torch.from_numpy(PCA(3).fit_transform(x.double())).float() / network.scale[0]
    torch.testing.assert_close(found.abs(), wanted.abs(), rtol=1e-3, atol=1e-3)
    assert network.scale.unique().numel() == 1
    torch.testing.assert_close(network.scale[0].square(), x.var(0, correction=0).mean())


def test_before_training_rows_are_decoded_but_for_the_directions_left_out() -> None:
    x = rows()
    network = begun(x)
    with torch.no_grad():
        found = network.decode(network.encode(x).mean).mean
    assert (found - x).square().mean() < 1e-3 * x.var(0).mean()


def test_the_sign_of_a_direction_is_not_left_to_chance() -> None:
    first, second = begun(rows()), begun(rows().flip(0))
    with torch.no_grad():
        both = [network.encode(rows()).mean for network in (first, second)]
    torch.testing.assert_close(*both, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("share", "number"), [(0.5, 1), (0.9, 2), (0.99, 3), (1.0, 6)])
def test_directions_are_counted_that_carry_a_share_of_the_variance(
    share: float, number: int
) -> None:
    assert directions(rows(20_000), share) == number


def test_rows_that_do_not_vary_have_one_direction_and_a_scale_of_1() -> None:
    same = torch.full((9, 6), 3.0)
    assert directions(same, 0.99) == 1
    network = begun(same, latents=1)
    assert network.scale.tolist() == [1.0] * 6
    with torch.no_grad():
        assert torch.isfinite(network.encode(same).mean).all()


def test_there_may_be_fewer_columns_than_latents() -> None:
    x = rows(columns=2)
    network = begun(x, latents=4)
    with torch.no_grad():
        assert network.encode(x).mean.shape == (len(x), 4)


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_a_table_and_small_images_have_this_network_where_they_are_few(
    shape: tuple[int, ...],
) -> None:
    network = network_for(shape, 3, (8,), "silu", True, few=True)
    assert isinstance(network, TableVAE)
    assert (network.shape, network.channels, network.latents) == (shape, 6, 3)
    assert not isinstance(network_for(shape, 3, (8,), "silu", True), TableVAE)
    again = network_again(network.settings)
    assert isinstance(again, TableVAE)
    again.load_state_dict(network.state_dict())


def test_larger_images_keep_their_own() -> None:
    assert not isinstance(network_for((1, 28, 28), 3, (8,), "relu", True, few=True), TableVAE)


def test_gradients_reach_every_weight() -> None:
    network = begun(rows())
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(2):  # the hidden layers begin with nothing to say
        optimiser.zero_grad()
        decoded = network.decode(network.encode(rows()).mean)
        ((decoded.mean - rows()).abs() / decoded.std + decoded.std.log()).mean().backward()
        optimiser.step()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
