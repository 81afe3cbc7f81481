"""Fitting, mapping and searching on a GPU beside the same on the CPU: seconds, and what differs.

    python benchmarks/gpu.py

Needs a CUDA device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from results import table, write_section
from timing import machine

from qspace_nd import Machine, MapSettings, NoveltyModel, fit_scans, map_scans
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.searching.nearest import NearestNeighbours
from qspace_nd.simulation.cohort import simulate_cohort

DEVICES = ("cpu", "cuda")
SCORES = ("latent-distance", "input-distance", "recon-error-qhat", "neg-elbo")


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no CUDA device here.")
    with TemporaryDirectory() as name, chdir(name):
        simulate_cohort(Path(), controls=3, layout="flat", voxel_size=3.0)
        rows = [["fit, 3 controls of 3 mm", *_seconds(_fit)]]
        rows += [[f"map, {len(SCORES)} scores", *_seconds(_map)]]
        rows += [_search()]
        alike, differences = _fitted_alike(), [_difference(score) for score in SCORES]
    text = f"""## On a GPU

{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}; {machine()}.

{table(["", "CPU, s", "GPU, s"], rows)}

Two fits on the GPU have the same weights: {alike}. Maps on the GPU against those on the CPU, of one
model: {"; ".join(differences)}.

`python benchmarks/gpu.py`"""
    write_section(Path(__file__).with_name("RESULTS.md"), "gpu", text)
    print(text)


def _seconds(work: Callable[[str], Any]) -> list[str]:
    """How long `work` takes on each device, the first call there left out."""
    work(DEVICES[1])
    found = []
    for device in DEVICES:
        start = time.perf_counter()
        work(device)
        torch.cuda.synchronize()
        found.append(f"{time.perf_counter() - start:.1f}")
    return found


def _fit(device: str) -> NoveltyModel:
    scans, model = sorted(Path("healthy").glob("control-??.nii.gz")), Path(f"model-{device}")
    return fit_scans(scans, NoveltyModel(), model, machine=Machine(device), force=True)


def _map(device: str) -> None:
    output = Path(f"{device}.nii.gz")
    settings = MapSettings(SCORES)
    machine = Machine(device)
    map_scans(["patient.nii.gz"], "model-cuda", output, settings, machine=machine, force=True)


def _search() -> list[str]:
    """Ten nearest of 20,000 among 1M of isotropic noise, where comparing all pairs pays."""
    random = np.random.default_rng(1)
    points, queries = (random.normal(size=(n, 16)).astype(np.float32) for n in (1_000_000, 20_000))
    searches = {name: NearestNeighbours(points, torch.device(name)) for name in DEVICES}
    found = {name: search.distances(queries, 10) for name, search in searches.items()}
    if not np.array_equal(*found.values()):
        raise SystemExit("The GPU finds other distances than the CPU.")
    seconds = _seconds(lambda device: searches[device].distances(queries, 10))
    engines = ", ".join(search.engine for search in searches.values())
    return [f"10 nearest of 20,000 in 1M x 16 of noise ({engines}): the same bits", *seconds]


def _fitted_alike() -> bool:
    one, other = (_fit("cuda").network_.state_dict().values() for _ in range(2))
    return all(map(torch.equal, one, other))


def _difference(score: str) -> str:
    one, other = (read_volume(Path(f"{device}_{score}.nii.gz"))[0] for device in DEVICES)
    mask = one != 0
    most = np.max(np.abs(one - other)[mask] / np.abs(one)[mask])
    return f"{score} {np.mean((one == other)[mask]):.0%} alike, the others to {most:.1e}"


if __name__ == "__main__":
    main()
