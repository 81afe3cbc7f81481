"""What is done to every voxel: reading, training, the closest generated sample."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from isal import igzip
from references import Files
from scipy.optimize import minimize
from timing import in_turn, peak_memory

from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, open_scans
from qspace_nd.imaging.voxels import read_voxels
from qspace_nd.network.recipes import PAPER_HIDDEN, PRESETS
from qspace_nd.network.training import train
from qspace_nd.network.vae import VectorVAE
from qspace_nd.scores.closest import ERROR, closest_latents
from qspace_nd.simulation.cohort import simulate_cohort
from qspace_nd.system.threads import single_thread

_READ = """
import sys
from pathlib import Path
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, open_scans
from qspace_nd.imaging.voxels import read_voxels
(scan,) = open_scans([Path(sys.argv[1])], DEFAULT_OPTIONS)
before = peak()
read_voxels(scan)
"""


def reading(files: Files, quick: bool) -> str:
    """Reading, masking and hashing a scan against plain decompression."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        size = 4.0 if quick else 1.5
        simulate_cohort(folder, controls=1, patients=0, layout="flat", voxel_size=size)
        path = folder / "healthy" / "control-01.nii.gz"
        (scan,) = open_scans([path], DEFAULT_OPTIONS)
        ours, plain = in_turn([lambda: read_voxels(scan), lambda: _decompress(path)], rounds=5)
        peak = peak_memory(_READ, path)
        packed = path.stat().st_size
    voxels = ours.result.values
    return f"""## Reading a scan

`{path.name}` of {packed / 1e6:.0f} MB, {plain.result / 1e6:.0f} MB unpacked (int16), of which
{len(voxels):,} voxels of {voxels.shape[1]} channels are in the mask ({voxels.nbytes / 1e6:.0f} MB
as float32); unpacked, masked, hashed and checked, against `isal.igzip` alone.

| MB/s unpacked | isal alone | share of its speed | peak memory / masked voxels |
| --: | --: | --: | --: |
| {plain.result / 1e6 / ours.seconds:.0f} | {plain.result / 1e6 / plain.seconds:.0f} | \
**{plain.seconds / ours.seconds:.2f}** | **{peak / voxels.nbytes:.2f}** |"""


def training(files: Files, quick: bool) -> str:
    """Training the paper's network against the machine's matrix product."""
    x = torch.from_numpy(np.array(files.signals(400_000)))
    channels, latents, hidden = x.shape[1], 8, PAPER_HIDDEN[8]
    recipe = PRESETS["paper"]
    steps = 3 if quick else 60
    # The validation loss is looked at once, on few voxels: it is no part of the rate.
    recipe = replace(recipe, steps=steps, check_every=steps)
    rows = torch.arange(len(x))

    def fit() -> None:
        network = VectorVAE(channels, latents, hidden, recipe.activation, recipe.standardise)
        train(network, x, rows, rows[:4096], recipe, seed=0)

    a, b = (torch.randn(2048, 2048) for _ in range(2))
    widths = [channels, *hidden, 2 * latents], [latents, *reversed(hidden), 2 * channels]
    weights = sum(i * o for side in widths for i, o in pairwise(side))
    # A product forwards, two backwards, but for the slopes of the input, which nobody asks for.
    operations = 6 * weights - 2 * channels * hidden[0]
    lines = []
    most_threads = torch.get_num_threads()
    for threads in sorted({1, most_threads}):
        torch.set_num_threads(threads)
        learned, product = in_turn([fit, lambda: torch.mm(a, b)], rounds=3)
        voxels = steps * min(recipe.batch_size, len(x)) / learned.seconds
        rate, most = operations * voxels, 2 * 2048**3 / product.seconds
        lines.append(
            f"| {threads} | {voxels:,.0f} | {rate / 1e9:.0f} | {most / 1e9:.0f} | "
            f"**{100 * rate / most:.0f} %** |"
        )
    return f"""## Training

The paper's network, {"-".join(map(str, (channels, *hidden, latents)))}, and its batches of
{recipe.batch_size:,} voxels: {operations:,} operations a voxel in products of matrices, against
PyTorch's product of two float32 matrices of 2048 × 2048 on as many threads.

| threads | voxels/s | Gflop/s in products | product of matrices | share |
| --: | --: | --: | --: | --: |
{chr(10).join(lines)}"""


def generated(files: Files, quick: bool) -> str:
    """The closest generated sample against L-BFGS-B of SciPy, one voxel at a time."""
    model = files.model(8)
    number, few = (512, 8) if quick else (16_384, 128)
    x = torch.from_numpy(np.array(files.patient(number)))
    start = model.network_.encode(x).mean
    stride = len(x) // few
    ours, theirs = in_turn(
        [
            lambda: closest_latents(model.network_, x, start, ERROR, 10.0),
            lambda: _by_scipy(model.network_, x[::stride][:few], start[::stride][:few]),
        ],
        rounds=2,
    )
    some = x[::stride][:few]
    errors = [
        ERROR.distance(model.network_.decode(z), some).mean()
        for z in (ours.result[::stride][:few], theirs.result)
    ]
    rates = len(x) / ours.seconds, few / theirs.seconds
    mean_errors = f"{errors[0]:.5f} | {errors[1]:.5f}"
    return f"""## Closest generated sample

min_z |x - pm(z)| in [-10, 10]^8, one search from qm(x), on {len(x):,} voxels of a patient in a
batch; SciPy's L-BFGS-B with gradients by PyTorch on {few} of them, one at a time on one thread,
where it is fastest, with its own defaults, from the same start.

| voxels/s | SciPy | times faster | mean error | SciPy's |
| --: | --: | --: | --: | --: |
| {rates[0]:,.0f} | {rates[1]:.0f} | **{rates[0] / rates[1]:.0f}** | {mean_errors} |"""


def _by_scipy(network: VectorVAE, x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    found = []
    with torch.enable_grad(), single_thread():  # for one voxel a second thread is in the way
        for voxel, begin in zip(x, start, strict=True):

            def objective(z: np.ndarray, voxel: torch.Tensor = voxel) -> tuple[float, np.ndarray]:
                latents = torch.from_numpy(z.astype(np.float32)).requires_grad_()
                error = (network.decode(latents[None]).mean[0] - voxel).norm()
                error.backward()
                return float(error.detach()), latents.grad.numpy().astype(np.float64)

            bounds = [(-10.0, 10.0)] * len(begin)
            end = minimize(objective, begin.numpy(), jac=True, method="L-BFGS-B", bounds=bounds)
            found.append(torch.from_numpy(end.x.astype(np.float32)))
    return torch.stack(found)


def _decompress(path: Path) -> int:
    size = 0
    buffer = bytearray(1 << 20)
    with igzip.open(path) as stream:
        while count := stream.readinto(buffer):
            size += count
    return size
