"""The model: a VAE of healthy voxels, the reference of their latents, and scores against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.calibration.null import Null, require_enough
from qspace_nd.calibration.summary import Summary
from qspace_nd.errors import ArrayError, InputError, ModelError
from qspace_nd.gaussian import Gaussian
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model import store
from qspace_nd.model.arguments import as_numbers, as_rows, by_subject, require_neighbours
from qspace_nd.model.calibrating import gathered, left_out
from qspace_nd.model.fitting import are_few, fit_network, recipe_of
from qspace_nd.model.knowledge import Features, directed, require_places, unplaced
from qspace_nd.model.nulls import Arrays, Measured, OnDemand, healthy_maps
from qspace_nd.model.quantities import Quantities
from qspace_nd.model.rows import Healthy, reference_parts, require_least
from qspace_nd.network.history import History
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress, watcher
from qspace_nd.scores import explanation, scoring
from qspace_nd.scores.base import Score
from qspace_nd.scores.catalogue import find_score, nearest_of
from qspace_nd.scores.explanation import Deviations
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Located, View, Views
from qspace_nd.searching.approximate import SAMPLE
from qspace_nd.searching.nearest import NearestNeighbours, by_lists
from qspace_nd.system.machine import Machine, find_device

OUTLIERS = 0.01
"""The share of healthy voxels that `predict` takes for outliers."""


class NotFittedModelError(InputError, NotFittedError):  # type: ignore[misc]
    """A model is asked for what only `fit` gives it."""


def _is_calibrated(model: NoveltyModel) -> bool:
    return bool(getattr(model, "nulls_", None))


class NoveltyModel(BaseEstimator):  # type: ignore[misc]
    """Novelty of voxels against healthy ones, by a variational autoencoder.

    A voxel is a vector of C channels; the row of a table serves as well. Images, of shape
    (n, K, H, W) with K planes, are given a convolutional network, and all else is the same for
    them, C being K H W.

    An estimator of scikit-learn: settings are stored unchanged; `fit` learns what ends in an
    underscore. `decision_function` is higher for what is more novel, as in PyOD.

    Parameters
    ----------
    latents : int, optional
        Number d of latent dimensions; by default 8, of few rows as many as they vary in (below).
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
    reference : int, optional
        The most healthy voxels that are compared with, drawn at random, as many of each subject;
        by default all. The network learns from all.
    preset : str
        "default" or "paper": how the network is trained (`qspace_nd.network.recipes.PRESETS` and
        `IMAGE_PRESETS`).
    decision_score : str
        The score that `decision_function` gives, and `novelty` where none is named.
    seed : int
        Of the weights, the batches, the held-out subjects and the scores' samples.
    device : str
        "auto", "cpu", "cuda" or "mps", for the network; on "cuda" all pairs are compared there too.

    Notes
    -----
    The defaults are made for the voxels of scans. Rows that are said to be of nobody (no `groups`,
    no `acquisition`), at most 20,000 of 1,024 numbers or fewer, are taken for a table or for small
    images and have a recipe of their own (`network.recipes.OF_TABLES`, `OF_FEW_IMAGES`), unless
    `latents`, `hidden` or `preset` say otherwise: latents by the rows' variance, no random gains,
    the nearest neighbour. Columns keep the weight that their units give them, as for nearest
    neighbours: standardise a table before.

    Attributes
    ----------
    network_ : VAE
        The trained network.
    reference_ : Reference
        All healthy voxels, as the network sees them.
    history_ : History
        What training showed.
    few_ : bool
        Whether it was fitted by the recipe of few rows.
    acquisition_ : Acquisition or None
        Of the scans; None for a model of arrays.
    template_ : mapping of str to array, or None
        The common space in which the healthy voxels have places (`qspace_nd.registration`).
    grids_ : mapping of str to array, or None
        Where the healthy voxels lie in their scans (`qspace_nd.model.nulls`).
    nulls_, summaries_ : OnDemand
        What `calibrate` found: arrays, and of those of images what they are compared with by
        (`qspace_nd.calibration.summary`).
    digest_ : str
        The hash of what was loaded; only of a model that was.
    """

    network_: VAE
    reference_: Reference
    history_: History
    few_: bool = False
    acquisition_: Acquisition | None
    template_: Mapping[str, Float32] | None
    grids_: Arrays | None
    nulls_: OnDemand
    summaries_: OnDemand
    digest_: str

    def __init__(
        self,
        latents: int | None = None,
        hidden: Sequence[int] | None = None,
        kl_weight: float | None = None,
        epochs: int | None = None,
        validation: float = 0.25,
        neighbours: int | None = None,
        reference: int | None = None,
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
        self.reference = reference
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
        return recipe_of(self, self.network_.shape, self.few_).neighbours

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        groups: ArrayLike | None = None,
        acquisition: Acquisition | None = None,
        progress: Progress | bool = False,
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
        progress : Progress or bool
            True shows bars on the terminal; a listener hears what they would show.

        Returns
        -------
        NoveltyModel
            This model.

        Raises
        ------
        ArrayError
            `X` or `groups` has a wrong shape, type or content, or a setting is out of range.
        """
        watched = watcher(progress)
        x = as_numbers(X, "X")
        if len(x) < 2:
            raise ArrayError(f"X has shape {x.shape}; a model needs at least 2 healthy voxels.")
        shape, x = x.shape[1:], x.reshape(len(x), -1)
        self.fit_parts(
            by_subject(x, groups),
            shape=shape,
            acquisition=acquisition,
            few=groups is None and acquisition is None and are_few(self, len(x), shape),
            progress=watched,
        )
        with watched.task("Encoding the healthy reference", len(self.reference_.parts)) as task:
            parts = []
            for part in self.reference_.parts:
                parts.append(part.encoded())
                task.advance()
        self.reference_ = Reference(parts, self.reference_.weights)
        return self

    def fit_parts(
        self,
        healthy: Sequence[Healthy],
        *,
        shape: tuple[int, ...] | None = None,
        acquisition: Acquisition | None = None,
        template: Mapping[str, Float32] | None = None,
        few: bool = False,
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
            The voxels of each scan, normalised. All of them become the reference, or as many as
            the setting `reference` says.
        shape : tuple of int, optional
            Of what is one row: (C,) by default, or that of images.
        acquisition : Acquisition, optional
            Of the scans.
        template : mapping of str to array, optional
            The common space, where the voxels have places.
        few : bool
            Take the recipe of few rows.
        memory : int, optional
            Bytes that the process may use; by default three quarters of what is available.

        Raises
        ------
        ArrayError
            A setting is out of range.
        """
        find_score(self.decision_score)  # before training, which takes a while
        if self.neighbours is not None:
            voxels = sum(len(part.rows) for part in healthy)
            require_neighbours(self.neighbours, min(voxels, self.reference or voxels))
        require_least(self.reference, [part.subject for part in healthy])
        self.network_, self.history_ = fit_network(
            self,
            healthy,
            shape or (healthy[0].rows.shape[1],),
            Machine(self.device, memory),
            progress,
            few=few,
        )
        self.few_ = few
        parts = reference_parts(healthy, self.network_, self.reference, self.seed)
        self.reference_ = Reference(parts, Features.of(acquisition).weights)
        self.acquisition_ = acquisition
        self.template_ = template
        self.grids_ = None
        self.nulls_, self.summaries_ = OnDemand(), OnDemand()
        return self

    def encode(self, X: ArrayLike) -> Gaussian[np.ndarray]:
        """Posteriors q(z|x) of voxels `X` (n, C) or images: a Gaussian of shape (n, d)."""
        return self._views(X).q.numpy()

    def decode(self, z: ArrayLike) -> Gaussian[np.ndarray]:
        """Likelihoods p(x|z) of latents `z` (n, d): a Gaussian of shape (n, C), or of images."""
        self._require_fitted()
        latents = as_rows(z, "z", (self.network_.latents,), "latents")
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
        self,
        X: ArrayLike,
        score: str | None = None,
        *,
        leave_out: str | None = None,
        progress: Progress | bool = False,
    ) -> Float32:
        """Novelty of voxels `X` (n, C) or images by one score: (n,), higher is more novel.

        The score is by default the setting `decision_score`. `leave_out` names a subject whose own
        voxels are left out of the reference. With `progress=True` a bar is shown.
        """
        name = self.decision_score if score is None else score
        return self.novelties(X, [name], leave_out=leave_out, progress=progress)[name]

    def novelties(
        self,
        X: ArrayLike | Views,
        scores: Sequence[str],
        *,
        leave_out: str | None = None,
        neighbours: int | None = None,
        approximate: bool = False,
        located: Located | None = None,
        without_place: bool = False,
        toward: str | None = None,
        memory: int | None = None,
        progress: Progress | bool = False,
    ) -> dict[str, Float32]:
        """Novelty of voxels `X` (n, C) or images by several scores, encoding once: (n,) for each.

        Parameters
        ----------
        X : (n, C) array of float, or Views
            The voxels, or views of them, which know where they lie.
        scores : sequence of str
            Names of scores.
        leave_out : str, optional
            A subject whose own voxels are left out of the reference.
        neighbours : int, optional
            In place of the model's own number, `neighbours_`.
        approximate : bool
            Miss some of the nearest voxels, for speed; see `recall`.
        located : Located (n), optional
            Where the voxels lie, for scores that know the place. All voxels of one person's scan
            are wanted then, as the person's own background is taken off.
        without_place : bool
            Leave out of each score what knows the place.
        toward : str, optional
            The change that directed scores look for, as `model.knowledge.change_of` reads it.
        memory : int, optional
            Bytes that the process may use, by default three quarters of what is available: where
            they do not serve all of the reference, it is searched in blocks. Distances to the
            nearest are the same for it but for float32's rounding, densities to within 1e-9.
        progress : Progress or bool
            True shows a bar on the terminal; a listener hears what it would show.

        Raises
        ------
        ArrayError
            `X` has a wrong shape, type or content, or values too far from all healthy ones for
            their score to be a finite number.
        InputError
            A score's name is unknown, or it has no approximate search; or the reference holds
            nobody but `leave_out`, or not them, or fewer voxels than `neighbours`, or not the
            signals that a score reads.
        """
        number = self.neighbours_ if neighbours is None else neighbours
        healthy = self._reference_without(leave_out)
        if neighbours is not None:
            require_neighbours(neighbours, len(healthy))
        rules: dict[str, Score] = {
            name: nearest_of(name).with_search(by_lists) if approximate else find_score(name).score
            for name in scores
        }
        rules = {name: rule.with_neighbours(number) for name, rule in rules.items()}
        if without_place:
            rules = {name: unplaced(name, rule) for name, rule in rules.items()}
        rules = {name: directed(rule, toward, self.acquisition_) for name, rule in rules.items()}
        self._require_signals(rules)
        voxels = X if isinstance(X, Views) else self._views(X, located)
        require_places([n for n, rule in rules.items() if rule.rests], healthy, voxels)
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            novelty = scoring.score(rules, voxels, healthy, memory, watcher(progress))
        for name, values in novelty.items():
            _require_finite(name, values)
        return novelty

    def deviations(
        self,
        X: ArrayLike,
        located: Located | None = None,
        *,
        leave_out: str | None = None,
        memory: int | None = None,
        progress: Progress | bool = False,
    ) -> Deviations:
        """How far voxels `X` (n, C) lie above or below healthy ones, by `model.quantities`.

        Against the healthy at their place, where they are `located`; else against those with the
        nearest latents. The parameters are those of `novelties`.

        Raises
        ------
        InputError
            Nothing can be told of such scans, or the voxels have places and the model has none.
        """
        told = Quantities.of(self.acquisition_)
        self._require_signals({}, explain=True)
        healthy, voxels = self._reference_without(leave_out), self._views(X, located)
        if located is None:
            return explanation.among_nearest(voxels, healthy, told, memory, watcher(progress))
        require_places(["deviations"], healthy, voxels)
        return explanation.at_place(voxels, healthy, told)

    def measured(
        self, score: str | None = None, neighbours: int | None = None, toward: str | None = None
    ) -> Measured:
        """By what novelty is found: by default the setting `decision_score` and `neighbours_`."""
        name = self.decision_score if score is None else score
        return Measured(name, self.neighbours_ if neighbours is None else neighbours, toward)

    def calibrate(
        self,
        *wanted: Measured,
        memory: int | None = None,
        progress: Progress | bool = False,
    ) -> NoveltyModel:
        """Find what novelty healthy people have, each left out of the reference in turn.

        Whose a row is, `fit` was told by its `groups`.

        Parameters
        ----------
        *wanted : Measured
            By what scores; by default by the setting `decision_score`.
        memory : int, optional
            Bytes that the process may use.
        progress : Progress or bool
            True shows a bar on the terminal.

        Raises
        ------
        InputError
            The reference is of fewer than `calibration.null.LEAST_SUBJECTS` people.
        """
        self._require_fitted()
        require_enough([part.subject for part in self.reference_.parts])
        by = wanted or (self.measured(),)
        parts = self.reference_.parts
        novelties = (left_out(self, part, by, memory) for part in parts)
        self.compare_with(gathered(by, novelties, len(parts), watcher(progress)))
        return self

    def compare_with(self, nulls: Mapping[Measured, Arrays]) -> None:
        """Take what was found of healthy people (`calibrating.gathered`) to compare maps with."""
        self.nulls_ |= nulls
        if self.grids_ is not None:
            self.summaries_ |= {
                one: Summary.of(self.null(one).maps, CLUSTER_SHARE).to_arrays() for one in nulls
            }

    def null(self, measured: Measured | None = None) -> Null:
        """What novelty healthy people have, as `calibrate` found it.

        Raises
        ------
        InputError
            It was not found.
        ModelError
            What was saved of it does not fit the model.
        """
        self._require_fitted()
        wanted = measured or self.measured()
        if wanted not in self.nulls_:
            raise InputError(
                f"The model is not calibrated for {wanted.score}; calibrate it first (qspace-nd "
                f"calibrate --score {wanted.score})."
            )
        return Null(healthy_maps(self.nulls_[wanted], self.grids_, self._measured_parts()))

    def summary(
        self, measured: Measured, forming: float = CLUSTER_SHARE, leave_out: str | None = None
    ) -> Summary:
        """What maps are compared with, whose voxels form clusters above a healthy share.

        Without the healthy subject `leave_out`, if one is named.

        Raises
        ------
        InputError
            The model is not calibrated for what was measured, or not on images.
        ModelError
            What was saved of it does not fit the model.
        """
        kept = None if leave_out is not None else self.summaries_.get(measured)
        if kept is None:
            return Summary.of(self.null(measured).without(leave_out).maps, forming)
        subjects = list(dict.fromkeys(subject for subject, _ in self._measured_parts()))
        try:
            summary = Summary.from_arrays(kept, subjects)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"What the model holds of its healthy people's maps by {measured.score} does not "
                f"fit it ({error}); calibrate it again (qspace-nd calibrate --score "
                f"{measured.score})."
            ) from error
        if summary.forming == forming:
            return summary
        return Summary.of(self.null(measured).maps, forming)

    def _measured_parts(self) -> list[tuple[str, int]]:
        """Of whom and of how many voxels each healthy map is: of a whole scan, or of rows.

        Of a scan the reference may hold some voxels alone.
        """
        if self.grids_ is not None and self.acquisition_ is not None:
            return [(scan.subject, scan.voxels) for scan in self.acquisition_.scans]
        return [(part.subject, len(part)) for part in self.reference_.parts]

    def p_values(self, X: ArrayLike, measured: Measured | None = None) -> Float64:
        """The share of healthy voxels, each person alike, as novel as each of `X` (n, C): (n,).

        Raises
        ------
        ArrayError
            `X` has a wrong shape, type or content.
        InputError
            The model is not calibrated for it.
        """
        wanted, null = measured or self.measured(), self.null(measured)
        novelty = self.novelties(
            X, [wanted.score], neighbours=wanted.neighbours, toward=wanted.toward
        )
        return null.p_values(novelty[wanted.score])

    @property
    def threshold_(self) -> float:
        """The novelty that at most 1 % of healthy voxels reach, by the setting `decision_score`."""
        return self.null().threshold(OUTLIERS)

    @available_if(_is_calibrated)  # type: ignore[untyped-decorator]
    def predict(self, X: ArrayLike) -> Ints:
        """Tell of voxels `X` (n, C) which are as healthy ones, 1, and which are outliers, -1.

        As scikit-learn's detectors do, of a model that is calibrated; others have no such method.
        An outlier's p is below 1 % (`p_values`).
        """
        return np.where(self.p_values(X) < OUTLIERS, -1, 1)

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
        rule = replace(nearest_of(score), neighbours=number)
        self._require_signals({score: rule})
        x, healthy = np.asarray(X), self._reference_without(leave_out)
        random = np.random.default_rng(self.seed)
        voxels = self._views(x[random.permutation(len(x))[:SAMPLE]])
        return scoring.recall_of(rule, voxels, healthy, memory)

    def check_reference(self, scores: Sequence[str], *, explain: bool = False) -> None:
        """Look at what scores will read of a reference on the disk, so that damage shows now.

        And what `deviations` will, to `explain`. Whatever is looked at is checked when it first
        is; this is for who writes nothing by halves.

        Raises
        ------
        InputError
            A score's name is unknown, or it reads signals that the reference does not hold.
        ModelError
            What was saved was altered.
        """
        self._require_fitted()
        rules = {name: find_score(name).score for name in scores}
        self._require_signals(rules, explain=explain)
        views = frozenset[View]().union(*(one.healthy_views | one.rests for one in rules.values()))
        if explain or any(rule.rests for rule in rules.values()):
            views |= {"placed"}  # where voxels lie
        views |= {"x", "q_bar"} if explain else frozenset()
        if views == {"q_bar"} and self.reference_.is_built("q_bar", NearestNeighbours):
            return  # all that is read is the tree that was kept, which was looked at just now
        self.reference_.check(views)

    def save(
        self,
        folder: str | Path,
        *,
        signals: bool = True,
        force: bool = False,
        progress: Progress = SILENT,
    ) -> str:
        """Save the model to a folder; return its hash.

        Without `signals` the healthy voxels' latents are written and not their signals: a quarter
        of the size, and nobody's data; scores that read them cannot be had of it then.

        Raises
        ------
        OutputError
            The folder exists and `force` is not set, or cannot be written.
        """
        self._require_fitted()
        return store.save(
            Path(folder),
            store.Contents(
                settings=self.get_params() | self._said(),
                network=self.network_,
                history=self.history_,
                acquisition=self.acquisition_,
                reference=self.reference_,
                template=self.template_,
                grids=self.grids_,
                nulls=self.nulls_,
                summaries=self.summaries_,
                signals=signals,
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
        try:
            model = NoveltyModel(**stored.settings)
        except TypeError as error:  # it has one that this version does not know
            raise ModelError(
                f"The model in {folder} has unknown settings ({error}); fit it again."
            ) from error
        model.network_ = stored.network.eval().requires_grad_(False).to(target)
        model.history_ = stored.history
        model.few_ = stored.settings.get("latents", 8) is None
        model.acquisition_ = stored.acquisition
        model.reference_ = stored.reference
        model.template_ = stored.template
        model.grids_ = stored.grids
        model.nulls_, model.summaries_ = OnDemand() | stored.nulls, OnDemand() | stored.summaries
        model.digest_ = stored.digest
        return model

    def _said(self) -> dict[str, int]:
        """The number of latents, which may be a default that another version has not.

        Of few rows it stays unsaid, as it is they who say it.
        """
        return {} if self.few_ else {"latents": self.network_.latents}

    def _require_fitted(self) -> None:
        if not hasattr(self, "reference_"):
            raise NotFittedModelError(
                "The model is not fitted; call fit first, or load a fitted model."
            )

    def _require_signals(self, rules: Mapping[str, Score], *, explain: bool = False) -> None:
        """Check that the reference holds signals where a rule reads them, or who explains does."""
        reading = [f"the score {name}" for name, rule in rules.items() if "x" in rule.healthy_views]
        reading += ["what explains maps"] * explain
        if reading and not self.reference_.has_signals:
            raise InputError(
                f"The model was saved without the healthy voxels' signals, which {reading[0]} "
                f"reads; fit it again with them (without --no-signals)."
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

    def _views(self, X: ArrayLike, located: Located | None = None) -> Views:
        self._require_fitted()
        x = as_rows(X, "X", self.network_.shape, "channels")
        return Views(self.network_, torch.from_numpy(x), seed=self.seed, located=located)


def _require_finite(score: str, values: Float32) -> None:
    bad = len(values) - int(np.isfinite(values).sum())
    if bad:
        raise ArrayError(
            f"The score {score} of {bad} of {len(values)} rows is not a finite number: they are "
            f"too far from all that the model was fitted with, or its weights are damaged; scale "
            f"the rows as the healthy ones, or fit the model again."
        )
