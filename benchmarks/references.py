"""Large healthy references to measure speed on, kept on disk: simulated heads of fine voxels.

Ten controls and a patient are simulated with voxels of 1.03 mm, 1.7 million each as in the paper,
and encoded by a default model that is fitted on four controls of the same cohort with voxels of
3 mm. A reference of N voxels is N of all controls' voxels at random, in the order of the scans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qspace_nd.diffusion.normalise import (
    channel_means,
    divide_by_channel_means,
    divide_by_scan_mean,
)
from qspace_nd.gaussian import Gaussian
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.system.writing import replacing

Floats = NDArray[np.float32]

FITTED_ON = 4  # controls


@dataclass(frozen=True)
class Design:
    """What a reference is made of.

    Attributes
    ----------
    fine, coarse : float
        Voxels of the reference and of the scans that the model is fitted on, in mm.
    controls : int
        Scans of the reference.
    most_signals : int
        Voxels of the reference whose 46 channels are kept, and not the latents alone.
    epochs : int or None
        The most that a model is fitted for.
    """

    fine: float = 1.03
    coarse: float = 3.0
    controls: int = 10
    most_signals: int = 1_000_000
    epochs: int | None = None
    seed: int = 77


QUICK = Design(fine=5.0, coarse=8.0, most_signals=20_000, epochs=2)
"""Small enough to see that everything runs."""


@dataclass(frozen=True)
class Files:
    """The references of a design, computed when they are first asked for."""

    design: Design
    folder: Path

    def model(self, latents: int) -> NoveltyModel:
        """The default model with so many latents."""
        folder = self.folder / f"model-{latents}"
        if not (folder / "model.json").exists():
            signals = [x for _, x in self._scans(self.design.coarse, range(FITTED_ON))]
            groups = np.repeat(np.arange(len(signals)), [len(x) for x in signals])
            hidden = (256, 128, 64)
            model = NoveltyModel(latents, hidden, epochs=self.design.epochs, device="cpu")
            model.fit(np.concatenate(signals), groups=groups).save(folder)
        return NoveltyModel.load(folder, "cpu")

    def signals(self, number: int) -> Floats:
        """So many of the reference's voxels (n, 46)."""
        return _some(self._array("x"), number)

    def patient(self, number: int) -> Floats:
        """So many of the patient's voxels (n, 46)."""
        return _some(self._array("patient"), number)

    def latents(self, number: int, latents: int = 8) -> Gaussian[np.ndarray]:
        """Posteriors (n, d) of so many of the reference's voxels."""
        if latents != 8 or number > len(self._array("q_mean")):
            return self.model(latents).encode(self.signals(number))
        mean, std = self._array("q_mean"), self._array("q_std")
        return Gaussian(_some(mean, number), _some(std, number))

    @property
    def size(self) -> int:
        """Voxels of the whole reference."""
        return len(self._array("q_mean"))

    @cached_property
    def means(self) -> Floats:
        """Mean of each channel over the coarse scans."""
        path = self.folder / "means.npy"
        if not path.exists():
            simulation = Simulation(self.design.coarse, seed=self.design.seed)
            coarse = (_signal(simulation.control(i)) for i in range(FITTED_ON))
            _save(path, channel_means(list(coarse)))
        return np.load(path)

    def _scans(self, voxel_size: float, numbers: range) -> Iterator[tuple[int, Floats]]:
        simulation = Simulation(voxel_size, seed=self.design.seed)
        for number in numbers:
            x = _signal(simulation.control(number))
            divide_by_channel_means(x, self.means)
            yield number, x

    def _array(self, name: str) -> Floats:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            self._simulate()
        return np.load(path, mmap_mode="r")

    def _simulate(self) -> None:
        design, model = self.design, self.model(8)
        kept, means, stds = [], [], []
        share = design.most_signals // design.controls
        for number, x in self._scans(design.fine, range(design.controls)):
            kept.append(_some(x, share))
            q = model.encode(x)
            means.append(q.mean)
            stds.append(q.std)
            print(f"Simulated control {number} of {len(x):,} voxels", flush=True)
        for name, parts in (("x", kept), ("q_mean", means), ("q_std", stds)):
            _save(self.folder / f"{name}.npy", np.concatenate(parts))
        patient = _signal(Simulation(design.fine, seed=design.seed).patient(0))
        divide_by_channel_means(patient, self.means)
        _save(self.folder / "patient.npy", patient)


def _signal(subject) -> Floats:
    signal = subject.signal[subject.mask]
    divide_by_scan_mean(signal)
    return signal


def _some(rows: Floats, number: int) -> Floats:
    """So many rows at random, in their order; the fewer of two numbers are not among the more."""
    if number >= len(rows):
        return np.asarray(rows)
    chosen = np.random.default_rng(0).choice(len(rows), number, replace=False)
    return np.ascontiguousarray(rows[np.sort(chosen)])


def _save(path: Path, array: Floats) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
