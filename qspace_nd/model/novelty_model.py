"""The model: a VAE of healthy voxels, the reference of their latents, and scores against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from qspace_nd.arrays import Float32
from qspace_nd.errors import ArrayError, InputError
from qspace_nd.gaussian import Gaussian
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model import store
from qspace_nd.model.rows import Healthy, Piece, collect, draw, hold_out, spread
from qspace_nd.network.image_vae import network_for
from qspace_nd.network.training import (
    IMAGE_PRESETS,
    PRESETS,
    STANDARDISED_ROWS,
    VALIDATION_ROWS,
    History,
    Recipe,
    train,
)
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.base import Score, Search
from qspace_nd.scores.catalogue import find_score, nearest_of
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Views
from qspace_nd.searching.approximate import SAMPLE, recall
from qspace_nd.searching.nearest import by_all_pairs, by_lists
from qspace_nd.system.machine import find_device
from qspace_nd.system.memory import remaining

_CHUNK = 65_536  # voxels scored at once
_ROW_BYTES = 32  # of a row's number and of its place in an epoch's order, while it is made
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
    neighbours : int, optional
        The nearest healthy voxels that distances to the nearest are the mean to; by default the
        preset's (10; 1 for images and in the paper).
    preset : str
        "default" or "paper": how the network is trained (`qspace_nd.network.training.PRESETS` and
        `IMAGE_PRESETS`).
    decision_score : str
        The score that `decision_function` gives, and `novelty` where none is named.
    seed : int
        Of the weights, the batches, the held-out subjects and the scores' samples.
    device : str
        "auto", "cpu", "cuda" or "mps", for the network; on "cuda" all pairs are compared there too.

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
        neighbours: int | None = None,
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

    @property
    def neighbours_(self) -> int:
        """The setting `neighbours`, or what the preset has in its place.

        Raises
        ------
        ArrayError
            A setting is out of range.
        """
        self._require_fitted()
        if self.neighbours is not None:
            return self.neighbours
        return self._recipe(_presets(self.network_.shape)).neighbours

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
        self.fit_parts(
            _by_subject(x, groups), shape=shape, acquisition=acquisition, progress=progress
        )
        with progress.task("Encoding the healthy reference", len(self.reference_.parts)) as task:
            parts = []
            for part in self.reference_.parts:
                parts.append(part.encoded())
                task.advance()
        self.reference_ = Reference(parts)
        return self

    def fit_parts(
        self,
        healthy: Sequence[Healthy],
        *,
        shape: tuple[int, ...] | None = None,
        acquisition: Acquisition | None = None,
        memory: int | None = None,
        progress: Progress = SILENT,
    ) -> NoveltyModel:
        """Learn what healthy voxels look like, of scans that may lie on the disk.

        As `fit` does. Of more voxels than training looks at, or than memory holds, as many are
        drawn at random for it. What lies on the disk is encoded whenever it is looked at, until
        the model is saved.

        Parameters
        ----------
        healthy : sequence of Healthy
            The voxels of each scan, normalised. All of them become the reference.
        shape : tuple of int, optional
            Of what is one row: (C,) by default, or that of images.
        acquisition : Acquisition, optional
            Of the scans.
        memory : int, optional
            Bytes that the process may use; by default three quarters of what is available.

        Raises
        ------
        ArrayError
            A setting is out of range.
        """
        channels = healthy[0].rows.shape[1]
        shape = shape or (channels,)
        presets = _presets(shape)
        recipe, hidden = self._recipe(presets), self._architecture(presets)
        find_score(self.decision_score)
        device = find_device(self.device)
        training, validation = hold_out(healthy, self.validation, self.seed)
        if self.epochs is not None:
            batches = max(1, sum(map(len, training)) // recipe.batch_size)
            recipe = replace(recipe, steps=min(recipe.steps, self.epochs * batches))
        drawn = draw(training, _most_rows(training, recipe, channels, memory, progress), self.seed)
        chosen = spread(validation, VALIDATION_ROWS)
        number = sum(map(len, drawn))
        x = np.empty((number + sum(map(len, chosen)), channels), np.float32)
        end = 0
        for some in chain(collect(training, drawn), collect(validation, chosen)):
            x[end : end + len(some)] = some
            end += len(some)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = network_for(
                shape, self.latents, hidden, recipe.activation, recipe.standardise
            )
        rows = torch.arange(len(x), device=device)
        history = train(
            network.to(device),
            torch.from_numpy(x).to(device),
            rows[:number],
            rows[number:],
            recipe,
            seed=self.seed,
            progress=progress,
        )
        network.eval().requires_grad_(False)
        del x
        self.network_, self.history_ = network, history
        self.reference_ = Reference([as_part(part, network) for part in healthy])
        self.acquisition_ = acquisition
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

    def decision_function(self, X: ArrayLike) -> Float32:
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
    ) -> Float32:
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
        approximate: bool = False,
        memory: int | None = None,
        progress: Progress = SILENT,
    ) -> dict[str, Float32]:
        """Novelty of voxels `X` (n, C) or images by several scores, encoding once: (n,) for each.

        Parameters
        ----------
        X : (n, C) array of float
            The voxels.
        scores : sequence of str
            Names of scores.
        leave_out : str, optional
            A subject whose own voxels are left out of the reference.
        neighbours : int, optional
            In place of the model's own number, `neighbours_`.
        approximate : bool
            Miss some of the nearest voxels, for speed; see `recall`.
        memory : int, optional
            Bytes that the process may use, by default three quarters of what is available: where
            they do not serve all of the reference, it is searched in blocks. Distances to the
            nearest are the same for it but for float32's rounding, densities to within 1e-9.

        Raises
        ------
        ArrayError
            `X` has a wrong shape, type or content.
        InputError
            A score's name is unknown, or it has no approximate search; or the reference holds
            nobody but `leave_out`, or not them.
        """
        number = self.neighbours_ if neighbours is None else neighbours
        rules: dict[str, Score] = {
            name: nearest_of(name).with_search(by_lists) if approximate else find_score(name).score
            for name in scores
        }
        rules = {name: rule.with_neighbours(number) for name, rule in rules.items()}
        voxels, healthy = self._views(X), self._reference_without(leave_out)
        found = self._search(rules, voxels, healthy, memory, progress)
        novelty = {name: np.empty(len(voxels), np.float32) for name in rules}
        for name, rule in rules.items():
            for number, chunk in enumerate(found[name]):
                rows = slice(number * _CHUNK, number * _CHUNK + len(chunk))
                novelty[name][rows] = _concluded(rule, chunk, len(healthy))
        return novelty

    def recall(
        self,
        X: ArrayLike,
        score: str,
        *,
        leave_out: str | None = None,
        neighbours: int | None = None,
        memory: int | None = None,
    ) -> float:
        """Share of the true nearest voxels that the approximate search of a score finds.

        Measured on `approximate.SAMPLE` of the voxels `X` (n, C) at random. The other parameters
        are those of `novelties`.
        """
        number = self.neighbours_ if neighbours is None else neighbours
        rule = nearest_of(score)
        x, healthy = np.asarray(X), self._reference_without(leave_out)
        random = np.random.default_rng(self.seed)
        voxels = self._views(x[random.permutation(len(x))[:SAMPLE]])
        rules: dict[str, Score] = {
            "found": rule.with_search(by_lists).with_neighbours(number),
            "nearest": rule.with_search(by_all_pairs).with_neighbours(number),
        }
        found = self._search(rules, voxels, healthy, memory, SILENT)
        return recall(*(np.concatenate(chunks) for chunks in found.values()))

    def _search(
        self,
        rules: Mapping[str, Score],
        voxels: Views,
        healthy: Reference,
        memory: int | None,
        progress: Progress,
    ) -> dict[str, list[NDArray[Any]]]:
        """What each rule finds of the voxels, before it is concluded: chunks of (n, ...)."""
        searches = [rule for rule in rules.values() if isinstance(rule, Search)]
        voxels.q  # noqa: B018  once for all blocks
        index_bytes: dict[str, int] = {}
        for search in searches:
            index_bytes |= search.index_bytes(healthy)
        each = sum(index_bytes.values())
        blocks = healthy.blocks(remaining(memory) // each) if each else [healthy]
        steps = len(rules) + len(searches) * (len(blocks) - 1)
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(voxels), _CHUNK)]
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in rules}
        with progress.task("Scoring voxels", len(voxels) * steps) as task:
            while blocks:  # a block's indexes go with it
                block = blocks.pop(0)
                for number, rows in enumerate(chunks):
                    chunk = voxels[rows]
                    for name, rule in rules.items():
                        before = found[name]
                        if number == len(before):
                            before.append(_look(rule, chunk, block))
                        elif isinstance(rule, Search):
                            before[number] = rule.join(before[number], rule.look(chunk, block))
                        else:
                            continue
                        task.advance(len(chunk), note=name)
        return found

    def save(self, folder: str | Path, *, force: bool = False, progress: Progress = SILENT) -> str:
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
            progress=progress,
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


def _presets(shape: tuple[int, ...]) -> Mapping[str, Recipe]:
    """The recipes for vectors, of shape (C,), or for images."""
    return PRESETS if len(shape) == 1 else IMAGE_PRESETS


def _most_rows(
    training: Sequence[Piece],
    recipe: Recipe,
    channels: int,
    memory: int | None,
    progress: Progress,
) -> int:
    """How many rows to train on: as many as training looks at, where memory holds them."""
    rows = sum(map(len, training))
    wanted = min(rows, max(recipe.steps * recipe.batch_size, STANDARDISED_ROWS))
    # The shifts and scales are found on copies of some of the rows.
    row, copies = 4 * channels + _ROW_BYTES, 3 * 4 * channels
    left = remaining(memory)
    held = max(left // (row + copies), (left - copies * STANDARDISED_ROWS) // row)
    if held >= wanted:
        return wanted
    least = min(max(held, recipe.batch_size), wanted)
    progress.warn(
        f"Memory holds {least:,} of the {wanted:,} voxels that training would look at, drawn from "
        f"{rows:,}: with more memory (--memory) the model would be another."
    )
    return least


def as_part(healthy: Healthy, network: VAE) -> Part:
    """A scan as a part of the reference, which is encoded whenever it is looked at."""
    return Part(healthy.subject, lambda: Views(network, torch.from_numpy(healthy.rows[:])))


def _look(rule: Score, voxels: Views, block: Reference) -> NDArray[Any]:
    return rule.look(voxels, block) if isinstance(rule, Search) else rule(voxels, block)


def _concluded(rule: Score, found: NDArray[Any], number: int) -> NDArray[Any]:
    return rule.conclude(found, number) if isinstance(rule, Search) else found


def _as_numbers(values: ArrayLike, name: str) -> Float32:
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


def _as_rows(values: ArrayLike, name: str, shape: tuple[int, ...], what: str) -> Float32:
    """Check vectors or images of a shape and return them as rows (n, C)."""
    x = _as_numbers(values, name)
    if x.shape[1:] == shape:
        return x.reshape(len(x), math.prod(shape))
    if x.ndim == 2 and len(shape) == 1:
        found, expected = f"{x.shape[1]} columns", f"{shape[0]} {what}"
    else:
        found, expected = f"shape {x.shape}", f"inputs of shape {shape}"
    raise ArrayError(f"{name} has {found}; the model was fitted with {expected}.")


def _by_subject(x: Float32, groups: ArrayLike | None) -> list[Healthy]:
    """Rows (n, C) by their subject, in the order in which subjects come first."""
    if groups is None:
        return [Healthy("reference", x)]
    labels = np.asarray(groups)
    if labels.shape != (len(x),):
        raise ArrayError(f"groups has shape {labels.shape}; one label for each of {len(x)} rows.")
    # Rows of one subject lie together in scans: they are taken run by run.
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    runs: dict[str, list[Float32]] = {}
    for start, run in zip(starts, np.split(x, starts[1:]), strict=True):
        runs.setdefault(str(labels[start]), []).append(run)
    return [
        Healthy(subject, own[0] if len(own) == 1 else np.concatenate(own))
        for subject, own in runs.items()
    ]
