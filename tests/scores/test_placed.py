"""Scores that know the place: norms on a lattice, the filter, compositions, what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from qspace_nd.errors import InputError, ModelError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.scores import scoring
from qspace_nd.scores.base import Log, Sum
from qspace_nd.scores.catalogue import CATALOGUE, OURS
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.norms import Lattice, Norms
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Located, Views
from qspace_nd.simulation.head import standard_table

OUR_SCORES = [name for name, entry in CATALOGUE.items() if entry.symbol == OURS]
TABLE = standard_table()
SIZE = 36.0  # mm of a cube of tissue


def points(number: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, SIZE, (number, 3)).astype(np.float32)


def person(number: int, seed: int, offset: float = 0.0) -> tuple[NDArray[np.float32], Located]:
    """Voxels whose diffusivity rises along x: signals, and where they lie; b=0 is off by a gain."""
    rng = np.random.default_rng(seed)
    where = points(number, seed)
    md = 0.7e-3 * (1 + where[:, 0] / SIZE) * np.exp(0.05 * rng.normal(size=number))
    b0 = np.exp(0.05 * rng.normal(size=number) + offset)
    fa = 0.4 + 0.02 * rng.normal(size=number)
    x = b0[:, None] * np.exp(-np.where(TABLE.b0, 0, TABLE.bvals) * md[:, None])
    x += 0.01 * rng.normal(size=x.shape)
    features = np.stack([np.log(b0), np.log(md), fa], axis=1).astype(np.float32)
    return x.astype(np.float32), Located(torch.from_numpy(where), torch.from_numpy(features))


@pytest.fixture(scope="module")
def placed() -> NoveltyModel:
    """A model of four people whose voxels have places."""
    people = [(f"p{i}", *person(1500, seed=i, offset=0.1 * i)) for i in range(4)]
    healthy = [
        Healthy(name, x, where.points.numpy(), where.features.numpy()) for name, x, where in people
    ]
    means = np.ones(len(TABLE.bvals), np.float32)
    model = NoveltyModel(latents=4, hidden=(24, 12), epochs=60, neighbours=3, seed=1, device="cpu")
    return model.fit_parts(
        healthy,
        acquisition=Acquisition(means, TABLE, (), resampled=True),
        template={"values": np.zeros(3, np.float32)},
    )


def novelties(
    model: NoveltyModel, x: NDArray[np.float32], where: Located, **how: object
) -> dict[str, NDArray[np.float32]]:
    return model.novelties(x, OUR_SCORES, located=where, toward="t2=+,md=+", **how)  # type: ignore[arg-type]


def test_a_novel_voxel_is_one_that_is_wrong_where_it_lies(placed: NoveltyModel) -> None:
    x, where = person(900, seed=9)
    order = np.argsort(where.points[:, 0].numpy())
    # Tissue of the far end, moved to the near one: common in the brain, and wrong at its place.
    wrong, there = x.copy(), where.features.clone()
    wrong[order[:40]], there[order[:40]] = x[order[-40:]], where.features[order[-40:]]
    found = novelties(placed, wrong, Located(where.points, there))
    plain = placed.novelty(wrong, "latent-distance")
    moved = np.isin(np.arange(900), order[:40])
    for name, values in found.items():
        assert roc_auc_score(moved, values) > 0.85, name
    assert roc_auc_score(moved, plain) < 0.7


def test_the_sign_of_the_change_matters_to_directed_scores_alone(placed: NoveltyModel) -> None:
    x, where = person(900, seed=9)
    features = where.features.clone()
    features[:50, 1] -= 0.5  # the diffusivity is lower than it should be
    less = x.copy()
    decay = np.where(TABLE.b0, 0, TABLE.bvals) * np.exp(features[:50, 1:2].numpy())
    less[:50] = np.exp(features[:50, :1].numpy()) * np.exp(-decay)
    away = Located(where.points, features)
    up = placed.novelties(less, ["directed-distance"], located=away, toward="md=+")
    down = placed.novelties(less, ["directed-distance"], located=away, toward="md=-")
    changed = np.arange(900) < 50
    assert roc_auc_score(changed, down["directed-distance"]) > 0.95
    assert roc_auc_score(changed, up["directed-distance"]) < 0.05
    assert np.median(down["directed-distance"][changed]) > 2


def test_a_healthy_persons_directed_distance_is_standard(placed: NoveltyModel) -> None:
    found = novelties(placed, *person(1500, seed=11))["directed-distance"]
    assert abs(found.mean()) < 0.6  # four people tell little of a fifth's level
    assert 0.7 < found.std() < 1.4


def test_a_persons_own_gain_is_no_novelty(placed: NoveltyModel) -> None:
    x, where = person(900, seed=9)
    brighter = Located(where.points, where.features + torch.tensor([0.25, 0.0, 0.0]))
    names = ["placed-distance"]
    plain = placed.novelties(x, names, located=where)["placed-distance"]
    gained = placed.novelties(x, names, located=brighter)["placed-distance"]
    assert np.median(gained) < 1.3 * np.median(plain)


@pytest.mark.parametrize("chunk", [97, 400])
def test_chunks_and_threads_change_nothing(
    placed: NoveltyModel, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, where = person(600, seed=9)
    whole = novelties(placed, x, where)
    monkeypatch.setattr(scoring, "_CHUNK", chunk)
    monkeypatch.setattr(scoring, "_NUMBERS", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 3)
    try:
        parts = novelties(placed, x, where)
    finally:
        torch.set_num_threads(threads)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


def test_the_order_of_voxels_changes_nothing_but_rounding(placed: NoveltyModel) -> None:
    x, where = person(600, seed=9)
    order = np.random.default_rng(0).permutation(600)
    whole = novelties(placed, x, where)
    turned = novelties(placed, x[order], Located(where.points[order], where.features[order]))
    for name, values in whole.items():
        np.testing.assert_allclose(turned[name], values[order], rtol=1e-4, atol=1e-4)


def test_little_memory_changes_nothing_but_rounding(
    placed: NoveltyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, where = person(300, seed=9)
    whole = novelties(placed, x, where)
    monkeypatch.setattr(scoring, "remaining", lambda memory: 0)
    reference = Reference(placed.reference_.parts, placed.reference_.weights)
    fresh = with_reference(placed, reference)
    for name, values in novelties(fresh, x, where).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-5)


def with_reference(model: NoveltyModel, reference: Reference) -> NoveltyModel:
    other = NoveltyModel(**model.get_params())
    vars(other).update(vars(model))
    other.reference_ = reference
    return other


def test_unions_are_sums_of_what_they_name(placed: NoveltyModel) -> None:
    x, where = person(300, seed=9)
    found = novelties(placed, x, where)
    latent = np.log(placed.novelty(x, "latent-distance").astype(float))
    near, toward = found["placed-distance"], found["directed-distance"]
    for name, expected in {
        "latent-placed-distance": latent + near,
        "latent-directed-distance": latent + toward / 3,
        "latent-placed-directed-distance": latent + near / 2 + toward / 3,
    }.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


def test_placed_distance_is_that_of_a_loop(placed: NoveltyModel) -> None:
    x, where = person(40, seed=9)
    found = placed.novelties(x, ["placed-distance"], located=where)["placed-distance"]
    norms = Norms(placed.reference_.parts, "features")
    own = norms.less(
        norms.background_of(Views(placed.network_, torch.from_numpy(x), located=where))
    )

    def placed_view(located: Located, field: object) -> NDArray[np.float64]:
        rest = located.features.numpy() - field.at(located.points.numpy())  # type: ignore[attr-defined]
        rest = rest / norms.spread * [1, 1, 0.5]
        return np.hstack([rest, 0.15 * located.points.numpy()])

    healthy = np.vstack(
        [
            placed_view(part.views.located, background)
            for part, background in zip(placed.reference_.parts, norms.backgrounds, strict=True)
        ]
    )
    for voxel, value in zip(placed_view(where, own.field), found, strict=True):
        distances = np.sort(np.linalg.norm(healthy - voxel, axis=1))
        assert value == pytest.approx(distances[:3].mean(), rel=1e-4)


def test_norms_are_the_means_and_spreads_near_a_place() -> None:
    where = points(20_000, seed=0)
    rng = np.random.default_rng(1)
    values = (0.1 * where[:, :1] + 0.5 * rng.normal(size=(len(where), 1))).astype(np.float32)
    located = Located(torch.from_numpy(where), torch.from_numpy(values))
    part = Part("ann", lambda: Views(None, torch.empty(len(where), 0), located=located))  # type: ignore[arg-type]
    norms = Norms([part], "features")
    inside = np.array([[9.0, 18, 18], [27, 18, 18]], np.float32)
    mean = norms.lattice.field(norms.mean * norms.spread[:, None, None, None]).at(inside)
    # One person's own slope is a background of theirs in part; the mean and it make the values.
    level = mean + norms.backgrounds[0].at(inside)
    np.testing.assert_allclose(level[:, 0], [0.9, 2.7], atol=0.15)
    assert norms.spread[0] == pytest.approx(0.53, abs=0.05)  # noise, and the slope within 1.5 mm


def test_where_people_vary_says_little_of_a_background() -> None:
    """As a large ventricle says little of the white matter beside it."""
    rng = np.random.default_rng(0)

    def some_one(seed: int, unsteady: float, steady: float) -> Views:
        where = points(20_000, seed)
        beside = where[:, 0] > SIZE / 2
        values = np.where(beside, steady, unsteady)[:, None]
        values = values + np.where(beside, 0.05, 1.0)[:, None] * rng.normal(size=values.shape)
        features = torch.from_numpy(values.astype(np.float32))
        located = Located(torch.from_numpy(where), features)
        return Views(None, torch.empty(len(where), 0), located=located)  # type: ignore[arg-type]

    people = {"ann": (0.5, 0.0), "ben": (-0.5, 0.05), "cem": (0.3, 0.0), "dee": (-0.3, -0.05)}
    parts = [
        Part(name, partial(some_one, number, *offsets))
        for number, (name, offsets) in enumerate(people.items())
    ]
    norms = Norms(parts, "features")
    background = norms.background_of(some_one(9, unsteady=1.5, steady=0.1))
    inside = np.array([[x, 18, 18] for x in (24, 27, 30)], np.float32)
    assert background.at(inside)[:, 0] == pytest.approx(0.1, abs=0.05)


def test_sums_count_every_point_once() -> None:
    some = points(500, seed=3)
    lattice = Lattice.around([some])
    sums = lattice.sums(some, np.ones((500, 1)))
    assert sums.sum() == 500
    assert lattice.origin.tolist() == (np.round(lattice.origin / 3) * 3).tolist()
    outside = np.array([[1e4, 0, 0]], np.float32)
    assert lattice.sums(outside, np.ones((1, 1))).sum() == 1


def test_places_that_no_head_reaches_are_refused() -> None:
    with pytest.raises(ModelError, match=r"lie 1e\+09 mm apart"):
        Lattice.around([np.array([[0, 0, 0], [1e9, 0, 0]], np.float32)])


def test_a_subject_that_is_left_out_leaves_the_norms_too(placed: NoveltyModel) -> None:
    part = placed.reference_.parts[1]
    x, where = part.views.x.numpy(), part.views.located
    own = novelties(placed, x, where, leave_out="p1")
    with_own = novelties(placed, x, where)
    for name in OUR_SCORES:
        assert (own[name] != with_own[name]).any()
    alone = Reference(placed.reference_.parts).without("p1").norms("features")
    assert alone.weight.sum() == pytest.approx(0.75 * norms_of(placed).weight.sum(), rel=0.05)


def norms_of(model: NoveltyModel) -> Norms:
    return Reference(model.reference_.parts).norms("features")


def test_what_is_needed_is_asked_for(placed: NoveltyModel) -> None:
    x, where = person(50, seed=9)
    with pytest.raises(InputError, match="placed-distance needs places; say where"):
        placed.novelty(x, "placed-distance")
    with pytest.raises(InputError, match="state it, with --toward"):
        placed.novelties(x, ["directed-distance"], located=where)
    bare = Reference(
        [
            replace(p, open=lambda: Views(placed.network_, torch.zeros(5, 46)))
            for p in placed.reference_.parts
        ]
    )
    with pytest.raises(InputError, match="has no template; fit it again on four people"):
        with_reference(placed, bare).novelties(x, ["placed-distance"], located=where)


def test_without_the_place_unions_are_what_is_left(placed: NoveltyModel) -> None:
    x, _ = person(50, seed=9)
    found = placed.novelties(x, ["latent-placed-distance"], without_place=True)
    latent = np.log(placed.novelty(x, "latent-distance"))
    np.testing.assert_allclose(found["latent-placed-distance"], latent, rtol=1e-5)
    with pytest.raises(InputError, match="placed-distance is of the place alone"):
        placed.novelties(x, ["placed-distance"], without_place=True)


def test_deviations_are_by_the_standard_deviation_at_the_place(placed: NoveltyModel) -> None:
    x, where = person(900, seed=9)
    features = where.features.clone()
    features[:20] += torch.tensor([0.0, 0.5, 0.0])
    x[:20, ~TABLE.b0] *= 0.6
    deviations = placed.deviations(x, Located(where.points, features))
    assert deviations.against.startswith("healthy people at the same place")
    found = deviations.values
    assert list(found) == ["b0", "md", "fa", "b1200"]
    assert np.median(found["md"][:20]) > 4
    assert np.median(found["b1200"][:20]) < -4
    for name in ("b0", "fa"):
        assert abs(np.median(found[name][:20])) < 1
    for values in found.values():
        assert 0.6 < values[20:].std() < 1.5


def test_a_composition_finds_each_term_once() -> None:
    latent = Nearest("q_bar", "q_bar")
    both = Sum(Log(latent), latent, 2.0)
    assert set(both.terms) == {latent}
    found: Callable[..., object] = both.of_terms
    np.testing.assert_allclose(found({latent: np.array([1.0, 0.0])}), [2.0, np.log(1.1754944e-38)])
