from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qspace_nd.network.image_vae import ImageVAE, network_again, network_for
from qspace_nd.network.vae import VAE, VectorVAE

SHAPES = [(1, 28, 28), (1, 7, 5), (3, 8, 9), (1, 1, 1)]


def network(shape: tuple[int, ...] = (1, 8, 6), latents: int = 3, **settings: Any) -> ImageVAE:
    torch.manual_seed(0)
    return ImageVAE(shape, latents, (4, 6), **settings)


def images(rows: int, shape: tuple[int, ...] = (1, 8, 6)) -> torch.Tensor:
    return torch.rand(rows, int(np.prod(shape)), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hidden", [(), (4,), (4, 6, 8)])
def test_gaussians_have_the_shapes_of_latents_and_pixels(
    shape: tuple[int, ...], hidden: tuple[int, ...]
) -> None:
    vae = ImageVAE(shape, 3, hidden)
    x = images(5, shape)
    q = vae.encode(x)
    p = vae.decode(q.mean)
    assert q.mean.shape == q.std.shape == (5, 3)
    assert p.mean.shape == p.std.shape == x.shape


def test_layers_are_those_of_the_paper() -> None:
    vae = network()
    down = [layer for layer in vae.encoder if isinstance(layer, nn.Conv2d)]
    up = [layer for layer in vae.decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert [(one.kernel_size, one.stride, one.padding) for one in down] == [
        ((3, 3), (1, 1), (1, 1))
    ] * 2
    assert [(one.kernel_size, one.stride) for one in up] == [((3, 3), (2, 2))] * 2
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in vae.encoder) == 2
    assert sum(isinstance(layer, nn.ReLU) for layer in vae.encoder) == 2


def test_a_row_is_an_image_plane_by_plane_and_line_by_line() -> None:
    vae = network((2, 4, 5))
    image = torch.arange(40.0).reshape(1, 2, 4, 5)
    seen: list[torch.Tensor] = []
    vae.encoder[1].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    vae.encode(image.reshape(1, 40))
    assert torch.equal(seen[0], image)


@pytest.mark.parametrize("factor", [1.0, 255.0, 1e-3])
def test_images_of_any_scale_are_encoded_alike(factor: float) -> None:
    vae, scaled = network(), network()
    x = images(200)
    vae.standardise(x)
    scaled.standardise(factor * x)
    torch.testing.assert_close(scaled.encode(factor * x).mean, vae.encode(x).mean)
    z = torch.randn(5, 3)
    torch.testing.assert_close(scaled.decode(z).mean, factor * vae.decode(z).mean)
    torch.testing.assert_close(scaled.decode(z).std, factor * vae.decode(z).std)


def test_each_plane_has_its_own_shift_and_scale() -> None:
    vae = network((2, 4, 4))
    x = images(100, (2, 4, 4))
    x[:, 16:] = 10.0 + 5.0 * x[:, 16:]
    vae.standardise(x)
    for plane in (slice(0, 16), slice(16, 32)):
        assert len(vae.shift[plane].unique()) == len(vae.scale[plane].unique()) == 1
        torch.testing.assert_close(vae.shift[plane][0], x[:, plane].mean())
        torch.testing.assert_close(vae.scale[plane][0], x[:, plane].std(correction=0))


@pytest.mark.parametrize("value", [0.0, 0.1, 255.0])
def test_a_constant_plane_keeps_its_scale(value: float) -> None:
    vae = network()
    x = torch.full((50, 48), value)
    vae.standardise(x)
    assert (vae.scale == 1).all()
    assert torch.isfinite(vae.encode(x).mean).all()


def test_the_std_has_a_floor() -> None:
    vae = network()
    with torch.no_grad():
        last = vae.decoder[-2]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        last.bias[1:] = -1e9
    vae.standardise(5.0 * images(100))
    relative = vae.decode(torch.randn(5, 3)).std / vae.scale
    torch.testing.assert_close(relative, torch.full((5, 48), vae.std_floor), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("shape", "kind"), [((7,), VectorVAE), ((1, 8, 8), ImageVAE), ((3, 8, 8), ImageVAE)]
)
def test_the_shape_decides_the_network(shape: tuple[int, ...], kind: type[VAE]) -> None:
    vae = network_for(shape, 2, (4,), "relu", True)
    assert type(vae) is kind
    assert vae.shape == shape
    again = network_again(vae.settings)
    assert type(again) is kind
    again.load_state_dict(vae.state_dict())
    x = images(4, shape)
    assert torch.equal(again.encode(x).mean, vae.encode(x).mean)
    assert torch.equal(again.decode(x[:, :2]).std, vae.decode(x[:, :2]).std)
