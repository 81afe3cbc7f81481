from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from qspace_nd.gaussian import Gaussian
from qspace_nd.network.blocks import BLOCK, apply_in_blocks
from qspace_nd.network.recipes import PAPER_HIDDEN
from qspace_nd.network.vae import VectorVAE
from qspace_nd.system.threads import single_thread

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network_and_rows(channels: int = 46, latents: int = 8) -> tuple[VectorVAE, Tensor]:
    torch.manual_seed(0)
    network = VectorVAE(channels, latents, PAPER_HIDDEN.get(latents, (7, 3)))
    return network, torch.randn(2 * BLOCK + 123, channels)


def equal(a: Gaussian[Tensor], b: Gaussian[Tensor]) -> bool:
    return torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std)


def test_blocks_agree_with_one_pass() -> None:
    network, x = network_and_rows()
    whole = network.encode(x)
    in_blocks = apply_in_blocks(network.encode, x, CPU)
    torch.testing.assert_close(in_blocks.mean, whole.mean)
    torch.testing.assert_close(in_blocks.std, whole.std)


@pytest.mark.parametrize(("channels", "latents"), [(46, 8), (13, 24), (4, 2)])
@pytest.mark.parametrize("rows", [slice(1, None), slice(137, 4500), slice(BLOCK - 1, BLOCK)])
def test_a_row_is_the_same_bits_whatever_lies_before_and_after_it(
    channels: int, latents: int, rows: slice
) -> None:
    network, x = network_and_rows(channels, latents)
    q = apply_in_blocks(network.encode, x, CPU)
    assert equal(apply_in_blocks(network.encode, x[rows], CPU), q[rows])
    p = apply_in_blocks(network.decode, q.mean, CPU)
    assert equal(apply_in_blocks(network.decode, q.mean[rows], CPU), p[rows])


def test_the_order_of_rows_does_not_matter() -> None:
    network, x = network_and_rows()
    order = torch.randperm(len(x))
    q = apply_in_blocks(network.encode, x, CPU)
    shuffled = apply_in_blocks(network.encode, x[order], CPU)
    assert equal(shuffled, Gaussian(q.mean[order], q.std[order]))


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_does_not_matter() -> None:
    network, x = network_and_rows()
    on_two = apply_in_blocks(network.encode, x, CPU)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert equal(apply_in_blocks(network.encode, x, CPU), on_two)


def test_no_rows_give_no_gaussians() -> None:
    network, x = network_and_rows()
    assert apply_in_blocks(network.encode, x[:0], CPU).mean.shape == (0, 8)


def test_images_pass_too() -> None:
    def flatten(images: Tensor) -> Gaussian[Tensor]:
        return Gaussian(images.flatten(1), torch.ones(len(images), 4))

    images = torch.randn(BLOCK + 3, 1, 2, 2)
    assert torch.equal(apply_in_blocks(flatten, images, CPU).mean, images.flatten(1))


def test_no_gradients_are_kept() -> None:
    network, x = network_and_rows()
    assert not apply_in_blocks(network.encode, x, CPU).mean.requires_grad


@pytest.mark.usefixtures("two_threads")
def test_an_error_inside_gives_the_threads_back() -> None:
    def fail(rows: Tensor) -> Gaussian[Tensor]:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        apply_in_blocks(fail, torch.zeros(3, 2), CPU)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_single_thread_is_for_the_length_of_the_block() -> None:
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
