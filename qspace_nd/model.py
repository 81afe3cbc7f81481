"""The model: a VAE of healthy voxels, the reference of their latents, and scores against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from qspace_nd import store
from qspace_nd.acquisition import Acquisition
from qspace_nd.errors import ArrayError, InputError
from qspace_nd.gaussian import Gaussian
from qspace_nd.image_vae import network_for
from qspace_nd.progress import SILENT, Progress
from qspace_nd.reference import Part, Reference
from qspace_nd.scores.catalogue import DEFAULT_SCORE, find_score
from qspace_nd.training import IMAGE_PRESETS, PRESETS, History, Recipe, train
from qspace_nd.vae import VAE
from qspace_nd.views import Views

_CHUNK = 65_536  # voxels scored at once
_LEAST = {"latents": 1, "neighbours": 1, "kl_weight": 0.0, "epochs": 1, "seed": 0}


class NotFittedModelError(InputError, NotFittedError):  # type: ignore[misc]
    """A model is asked for what only `fit` gives it."""


class NoveltyModel(BaseEstimator):  # type: ignore[misc]
    """Novelty of voxels against healthy ones, by a variational autoencoder.

    A voxel is a vector of C channels; the row of a table serves as well. Images, of shape
    (n, K, H, W) with K planes, are given a convolutional network, and all else is the same for
    them, C being K H W.

    An estimator of scikit-learn: settings are stored unchanged; `fit` learns what ends in an
    underscore. `decision_function` is higher for what is more novel, as in PyOD.

    Parameters
    ----------
    latents : int
        Number d of latent dimensions.
    hidden : sequence of int, optional
        Widths of the encoder's hidden layers, for images their numbers of filters; the decoder
        mirrors them. By default the preset's; the paper's of vectors exist for 8, 16 and 24
        latents.
    kl_weight : float, optional
        Weight of the Kullback-Leibler term; by default the preset's (0.01, the paper's is 1).
    epochs : int, optional
        The most passes through the training voxels; by default the preset's budget of steps.
    validation : float
        Share of the subjects held out from training, to choose the weights by.
    neighbours : int
        The nearest healthy voxels that distances to the nearest are the mean to; 1 in the paper.
    preset : str
        "default" or "paper": how the network is trained (see `qspace_nd.training.PRESETS` and
        `IMAGE_PRESETS`).
    decision_score : str
        The score that `decision_function` gives, and `novelty` where none is named.
    seed : int
        Of the weights, the batches, the held-out subjects and the scores' samples.
    device : str
        "auto", "cpu", "cuda" or "mps", for the network.

    Attributes
    ----------
    network_ : VAE
        The trained network.
    reference_ : Reference
        All healthy voxels, as the network sees them.
    history_ : History
        What training showed.
    acquisition_ : Acquisition or None
        Of the scans; None for a model of arrays.
    """

    network_: VAE
    reference_: Reference
    history_: History
    acquisition_: Acquisition | None

    def __init__(
        self,
        latents: int = 8,
        hidden: Sequence[int] | None = None,
        kl_weight: float | None = None,
        epochs: int | None = None,
        validation: float = 0.25,
        neighbours: int = 1,
        preset: str = "default",
        decision_score: str = DEFAULT_SCORE,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.latents = latents
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.epochs = epochs
        self.validation = validation
        self.neighbours = neighbours
        self.preset = preset
        self.decision_score = decision_score
        self.seed = seed
        self.device = device

    @property
    def n_features_in_(self) -> int:
        """Number C of channels that the model was fitted with."""
        return self.network_.channels

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        groups: ArrayLike | None = None,
        acquisition: Acquisition | None = None,
        progress: Progress = SILENT,
    ) -> NoveltyModel:
        """Learn what healthy voxels look like.

        Parameters
        ----------
        X : (n, C) or (n, K, H, W) array of float
            Healthy voxels, scan- and channel-normalised, or images of any scale. All of them
            become the reference.
        y : object, optional
            Ignored: what scikit-learn's pipelines pass. There are no labels.
        groups : (n,) array, optional
            The subject of each row. Whole subjects are held out for validation; with one subject
            the last rows are.
        acquisition : Acquisition, optional
            Of the scans that the voxels are from, to be kept with the model.

        Returns
        -------
        NoveltyModel
            This model.

        Raises
        ------
        ArrayError
            `X` or `groups` has a wrong shape, type or content, or a setting is out of range.
        """
        x = _as_numbers(X, "X")
        if len(x) < 2:
            raise ArrayError(f"X has shape {x.shape}; a model needs at least 2 healthy voxels.")
        shape, x = x.shape[1:], x.reshape(len(x), -1)
        presets = PRESETS if len(shape) == 1 else IMAGE_PRESETS
        recipe, hidden = self._recipe(presets), self._architecture(presets)
        find_score(self.decision_score)
        device = find_device(self.device)
        subjects, group = _as_groups(groups, len(x))
        training, validation = split_rows(group, self.validation, self.seed)
        if self.epochs is not None:
            batches = max(1, len(training) // recipe.batch_size)
            recipe = replace(recipe, steps=min(recipe.steps, self.epochs * batches))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = network_for(
                shape, self.latents, hidden, recipe.activation, recipe.standardise
            )
        history = train(
            network.to(device),
            torch.from_numpy(x).to(device),
            torch.from_numpy(training).to(device),
            torch.from_numpy(validation).to(device),
            recipe,
            seed=self.seed,
            progress=progress,
        )
        network.eval().requires_grad_(False)
        with progress.task("Encoding the healthy reference", len(subjects)) as task:
            parts = []
            for number, subject in enumerate(subjects):
                part = Views(network, torch.from_numpy(x[group == number]))
                parts.append(Part(subject, Views(network, part.x, part.q)))
                task.advance()
        self.network_, self.history_ = network, history
        self.reference_, self.acquisition_ = Reference(parts), acquisition
        return self

    def encode(self, X: ArrayLike) -> Gaussian[np.ndarray]:
        """Posteriors q(z|x) of voxels `X` (n, C) or images: a Gaussian of shape (n, d)."""
        return self._views(X).q.numpy()

    def decode(self, z: ArrayLike) -> Gaussian[np.ndarray]:
        """Likelihoods p(x|z) of latents `z` (n, d): a Gaussian of shape (n, C), or of images."""
        self._require_fitted()
        latents = _as_rows(z, "z", (self.network_.latents,), "latents")
        empty = torch.empty(len(latents), 0)
        q = Gaussian(torch.from_numpy(latents), torch.ones(latents.shape))
        p, shape = Views(self.network_, empty, q).p.numpy(), (-1, *self.network_.shape)
        return Gaussian(p.mean.reshape(shape), p.std.reshape(shape))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float32]:
        """Novelty of voxels `X` (n, C) or images by the setting `decision_score`: (n,).

        Higher is more novel, as in PyOD and other than in scikit-learn's own detectors.

        Raises
        ------
        ArrayError
            `X` has a wrong shape, type or content.
        """
        return self.novelty(X)

    def novelty(
        self, X: ArrayLike, score: str | None = None, *, leave_out: str | None = None
    ) -> NDArray[np.float32]:
        """Novelty of voxels `X` (n, C) or images by one score: (n,), higher is more novel.

        The score is by default the setting `decision_score`. `leave_out` names a subject whose own
        voxels are left out of the reference.
        """
        name = self.decision_score if score is None else score
        return self.novelties(X, [name], leave_out=leave_out)[name]

    def novelties(
        self,
        X: ArrayLike,
        scores: Sequence[str],
        *,
        leave_out: str | None = None,
        neighbours: int | None = None,
        progress: Progress = SILENT,
    ) -> dict[str, NDArray[np.float32]]:
        """Novelty of voxels `X` (n, C) or images by several scores, encoding once: (n,) for each.

        `neighbours` takes the place of the model's own setting.

        Raises
        ------
        ArrayError
            `X` has a wrong shape, type or content.
        InputError
            A score's name is unknown, or the reference holds nobody but `leave_out`, or not them.
        """
        number = self.neighbours if neighbours is None else neighbours
        rules = {name: find_score(name).score.with_neighbours(number) for name in scores}
        voxels = self._views(X)
        healthy = self._reference_without(leave_out)
        novelty = {name: np.empty(len(voxels), np.float32) for name in rules}
        with progress.task("Scoring voxels", len(voxels) * len(rules)) as task:
            for start in range(0, len(voxels), _CHUNK):
                rows = slice(start, min(start + _CHUNK, len(voxels)))
                chunk = voxels[rows]
                for name, rule in rules.items():
                    novelty[name][rows] = rule(chunk, healthy)
                    task.advance(len(chunk), note=name)
        return novelty

    def save(self, folder: str | Path, *, force: bool = False) -> str:
        """Save the model to a folder; return its hash.

        Raises
        ------
        OutputError
            The folder exists and `force` is not set, or cannot be written.
        """
        self._require_fitted()
        return store.save(
            Path(folder),
            store.Stored(
                settings=self.get_params(),
                network=self.network_,
                history=self.history_,
                acquisition=self.acquisition_,
                reference=self.reference_,
            ),
            force=force,
        )

    @staticmethod
    def load(folder: str | Path, device: str = "auto") -> NoveltyModel:
        """Read a saved model.

        Raises
        ------
        ModelError
            The folder is absent, incomplete, altered or of a newer schema.
        """
        target = find_device(device)
        stored = store.load(Path(folder))
        model = NoveltyModel(**stored.settings)
        model.network_ = stored.network.eval().requires_grad_(False).to(target)
        model.history_ = stored.history
        model.acquisition_ = stored.acquisition
        model.reference_ = stored.reference
        return model

    def _require_fitted(self) -> None:
        if not hasattr(self, "reference_"):
            raise NotFittedModelError(
                "The model is not fitted; call fit first, or load a fitted model."
            )

    def _reference_without(self, subject: str | None) -> Reference:
        if subject is None:
            return self.reference_
        if str(subject) not in self.reference_.subjects:
            raise InputError(
                f"The reference holds no subject {subject!r} to leave out, only "
                f"{', '.join(sorted(self.reference_.subjects))}."
            )
        return self.reference_.without(str(subject))

    def _views(self, X: ArrayLike) -> Views:
        self._require_fitted()
        x = _as_rows(X, "X", self.network_.shape, "channels")
        return Views(self.network_, torch.from_numpy(x), seed=self.seed)

    def _architecture(self, presets: Mapping[str, Recipe]) -> Sequence[int]:
        if self.hidden is not None:
            if min(self.hidden, default=1) < 1:
                raise ArrayError(f"hidden is {self.hidden}; widths of 1 or more are wanted.")
            return self.hidden
        widths = presets[self.preset].hidden
        if isinstance(widths, tuple):
            return widths
        if self.latents not in widths:
            raise ArrayError(
                f"The preset {self.preset} knows no hidden widths for {self.latents} latents, only "
                f"for {', '.join(map(str, widths))}; name them, as in hidden=(64, 32, 16)."
            )
        return widths[self.latents]

    def _recipe(self, presets: Mapping[str, Recipe]) -> Recipe:
        if self.preset not in presets:
            raise ArrayError(f"No preset is called {self.preset!r}, only {', '.join(presets)}.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ArrayError(f"{name} is {value}; {least} or more is wanted.")
        if not 0.0 < self.validation < 1.0:
            raise ArrayError(f"validation is {self.validation}; a share between 0 and 1 is wanted.")
        recipe = presets[self.preset]
        return recipe if self.kl_weight is None else replace(recipe, kl_weight=self.kl_weight)


def find_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where PyTorch finds one.

    Raises
    ------
    ArrayError
        PyTorch finds no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((device for device, found in present.items() if found), "cpu"))
    if name != "cpu" and not present.get(name, False):
        raise ArrayError(f"PyTorch finds no device {name!r} on this machine; use auto or cpu.")
    return torch.device(name)


def split_rows(
    group: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows, by the number of each row's subject, into training and validation rows.

    Whole subjects are held out, at least one; with a single subject the last `share` of its rows,
    which for a scan are a block of neighbouring slices.
    """
    subjects = int(group.max()) + 1
    rows = np.arange(len(group))
    if subjects == 1:
        held_out = rows >= min(max(1, round(len(rows) * (1.0 - share))), len(rows) - 1)
    else:
        number = min(max(1, round(subjects * share)), subjects - 1)
        chosen = np.random.default_rng(seed).permutation(subjects)[:number]
        held_out = np.isin(group, chosen)
    return rows[~held_out], rows[held_out]


def _as_numbers(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """Check rows of vectors (n, C) or images (n, K, H, W) and return them as float32."""
    if issparse(values):
        raise ArrayError(f"{name} is sparse, which is not supported; give {name}.toarray().")
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biufO":  # NumPy would read text, and drop imaginary parts
            raise TypeError(f"it holds {given.dtype.name} values")
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
            # Copied where it is read-only, as a memory map may be: PyTorch warns of such memory.
            x = np.require(given, np.float32, ["C", "W", "E"])
    except (TypeError, ValueError) as error:
        raise ArrayError(f"{name} is not an array of numbers ({error}); give numbers.") from None
    if x.ndim not in (2, 4) or 0 in x.shape[1:]:
        raise ArrayError(
            f"{name} has shape {x.shape}; an array of rows and columns is wanted, or one of images "
            f"(n, planes, height, width)."
        )
    nonfinite = int((~np.isfinite(x.reshape(len(x), math.prod(x.shape[1:])))).any(axis=1).sum())
    if nonfinite:
        raise ArrayError(
            f"{name} holds NaN or infinity in {nonfinite} of {len(x)} rows; remove them."
        )
    return x


def _as_rows(
    values: ArrayLike, name: str, shape: tuple[int, ...], what: str
) -> NDArray[np.float32]:
    """Check vectors or images of a shape and return them as rows (n, C)."""
    x = _as_numbers(values, name)
    if x.shape[1:] == shape:
        return x.reshape(len(x), math.prod(shape))
    if x.ndim == 2 and len(shape) == 1:
        found, expected = f"{x.shape[1]} columns", f"{shape[0]} {what}"
    else:
        found, expected = f"shape {x.shape}", f"inputs of shape {shape}"
    raise ArrayError(f"{name} has {found}; the model was fitted with {expected}.")


def _as_groups(groups: ArrayLike | None, rows: int) -> tuple[list[str], NDArray[np.int64]]:
    if groups is None:
        return ["reference"], np.zeros(rows, dtype=np.int64)
    labels = np.asarray(groups)
    if labels.shape != (rows,):
        raise ArrayError(f"groups has shape {labels.shape}; one label for each of {rows} rows.")
    # Rows of one subject lie together in scans: only the first of each run needs sorting.
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    names, number = np.unique([str(label) for label in labels[starts]], return_inverse=True)
    lengths = np.diff(np.append(starts, rows))
    return names.tolist(), np.repeat(number.astype(np.int64), lengths)
