from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from qspace_nd.network.recipes import PAPER_HIDDEN, PRESETS
from qspace_nd.network.training import train
from qspace_nd.network.vae import VectorVAE


def widths(layers: nn.Sequential) -> list[int]:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def network(channels: int = 6, latents: int = 2) -> VectorVAE:
    torch.manual_seed(0)
    return VectorVAE(channels, latents, (16, 8))


@pytest.mark.parametrize(
    ("latents", "hidden"), [(8, [64, 32, 16]), (16, [128, 64, 32]), (24, [128, 64, 48])]
)
def test_the_widths_are_those_of_the_paper(latents: int, hidden: list[int]) -> None:
    vae = VectorVAE(46, latents, PAPER_HIDDEN[latents])
    assert widths(vae.encoder) == [46, *hidden, 2 * latents]
    assert widths(vae.decoder) == [latents, *reversed(hidden), 92]


def test_the_last_layers_are_linear() -> None:
    vae = network()
    assert isinstance(vae.encoder[-1], nn.Linear)
    assert isinstance(vae.decoder[-1], nn.Linear)


def test_gaussians_have_the_shapes_of_latents_and_channels() -> None:
    vae = network(channels=6, latents=2)
    q = vae.encode(torch.randn(5, 6))
    p = vae.decode(q.mean)
    assert (q.mean.shape, q.std.shape) == ((5, 2), (5, 2))
    assert (p.mean.shape, p.std.shape) == ((5, 6), (5, 6))


def test_a_network_without_hidden_layers_is_linear() -> None:
    assert widths(VectorVAE(6, 2, ()).encoder) == [6, 4]


def test_inputs_are_standardised_inside() -> None:
    vae = network()
    x = 50.0 + torch.randn(1000, 6) * torch.tensor([0.1, 1, 10, 0.1, 1, 10])
    lower, median, upper = np.quantile(x.numpy(), [0.25, 0.5, 0.75], axis=0)
    scale = (upper - lower) / (2 * norm.ppf(0.75))
    plain = vae.encode(torch.from_numpy(((x.numpy() - median) / scale).astype(np.float32)))
    vae.standardise(x)
    inside = vae.encode(x)
    torch.testing.assert_close(inside.mean, plain.mean, rtol=1e-3, atol=1e-3)


def test_inputs_are_compressed_by_the_inverse_of_a_hyperbolic_sine() -> None:
    """To the last digits of float32, from its smallest numbers to its largest, each row alike."""
    vae = network()
    sizes = torch.logspace(-38, 38, 600, dtype=torch.float64).view(-1, 6).float()
    x = torch.cat([sizes, -sizes, torch.zeros(1, 6)])
    found = vae.inputs(x)
    expected = x.double().asinh()
    torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=0)
    order = torch.randperm(len(x))
    assert torch.equal(vae.inputs(x[order]), found[order])
    largest = torch.tensor([[3.4e38, -3.4e38, torch.inf, -torch.inf, 1.7e38, torch.nan]])
    found = vae.inputs(largest)[0]
    bound = float(torch.tensor(1.7e38).asinh())
    torch.testing.assert_close(found[:5], bound * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]))
    assert found[5].isnan()


def test_a_network_that_is_not_standardised_sees_its_input() -> None:
    x = torch.randn(10, 6)
    vae = VectorVAE(6, 2, (16, 8), standardised=False)
    assert vae.standard(x) is vae.inputs(x) is x


def test_a_few_bright_voxels_do_not_set_the_scale() -> None:
    vae = network()
    x = torch.randn(1000, 6)
    x[:100] += 1000.0
    vae.standardise(x)
    assert (vae.scale < 1.5).all()


def test_a_channel_of_equal_quartiles_is_scaled_by_its_standard_deviation() -> None:
    vae = network()
    x = torch.randn(1000, 6)
    x[:, 2] = 0.0
    x[:10, 2] = 5.0
    vae.standardise(x)
    torch.testing.assert_close(vae.scale[2], x[:, 2].std(correction=0))


def test_the_decoder_speaks_in_the_units_of_the_input() -> None:
    vae = network()
    z = torch.randn(5, 2)
    before = vae.decode(z)
    x = 50.0 + 7.0 * torch.randn(1000, 6)
    vae.standardise(x)
    after = vae.decode(z)
    torch.testing.assert_close(after.mean, before.mean * vae.scale + vae.shift)
    torch.testing.assert_close(after.std, before.std * vae.scale)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1234.5])
def test_a_constant_channel_keeps_its_scale(value: float) -> None:
    vae = network()
    x = torch.randn(1000, 6)
    x[:, 3] = value
    vae.standardise(x)
    assert vae.scale[3] == 1
    assert torch.isfinite(vae.encode(x).mean).all()


def test_the_std_has_a_floor() -> None:
    vae = network()
    with torch.no_grad():
        vae.decoder[-1].bias[6:] = -1e9
    vae.standardise(5.0 * torch.randn(1000, 6))
    relative = vae.decode(torch.randn(5, 2)).std / vae.scale
    torch.testing.assert_close(relative, torch.full((5, 6), 0.01), rtol=1e-3, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_constant_channel_does_no_harm_to_the_others(preset: str) -> None:
    torch.manual_seed(0)
    signal = torch.randn(600, 1) @ torch.ones(1, 5) + 0.1 * torch.randn(600, 5)
    x = torch.cat([signal, torch.ones(600, 1)], dim=1)
    vae = network()
    recipe = replace(PRESETS[preset], steps=300, batch_size=450, kl_weight=0.01)
    history = train(vae, x, torch.arange(450), torch.arange(450, 600), recipe, seed=0)
    assert history.latents_alive >= 1
    error = (vae.decode(vae.encode(x).mean).mean - x)[:, :5].pow(2).mean()
    assert error < 0.5  # the signal's variance is 1


@pytest.mark.parametrize("outlier", [1e6, -1e6])
def test_an_outlier_is_encoded_and_decoded_to_finite_numbers(outlier: float) -> None:
    vae = network()
    vae.standardise(torch.randn(1000, 6))
    x = torch.full((3, 6), outlier)
    q = vae.encode(x)
    p = vae.decode(q.mean)
    for values in (q.mean, q.std, q.kl(), p.mean, p.std, p.log_prob(x)):
        assert torch.isfinite(values).all()
    assert (q.std > 0).all()


def test_settings_build_the_same_network_again() -> None:
    vae = network()
    again = VectorVAE(**vae.settings)
    again.load_state_dict(vae.state_dict())
    x = torch.randn(4, 6)
    assert torch.equal(again.encode(x).mean, vae.encode(x).mean)
