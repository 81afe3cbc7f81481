"""What all scores have in common, and their sums."""

from __future__ import annotations

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.base import Cost, Search
from qspace_nd.scores.catalogue import CATALOGUE, PAPER
from qspace_nd.scores.density import Density
from qspace_nd.scores.nearest import Nearest, NearestGaussian
from qspace_nd.scores.reconstruction import Reconstruction, Regulariser, bar, error_bar, least


def test_a_sum_costs_as_much_as_its_dearer_term() -> None:
    cheap = Regulariser() + Reconstruction(bar, error_bar, least)
    assert cheap.cost is Cost.CHEAP
    assert (cheap + Nearest("x", "x")).cost is Cost.SEARCH
    assert (cheap + Nearest("x", "x")).family == "Regulariser + Reconstruction + Nearest"


def test_a_subject_can_be_left_out_of_the_reference(trained: NoveltyModel) -> None:
    known = trained.reference_.parts[1].views.x[:20].numpy()
    names = [name for name in PAPER if CATALOGUE[name].score.healthy_views]
    with_own = trained.novelties(known, names)
    without = trained.novelties(known, names, leave_out="b")
    for name in names:
        assert (with_own[name] != without[name]).any(), name


def test_a_score_that_names_no_view_of_healthy_voxels_looks_at_none(trained: NoveltyModel) -> None:
    views = trained.reference_.parts[0].views[:20]
    for name in PAPER:
        if not CATALOGUE[name].score.healthy_views:
            assert CATALOGUE[name].score(views, None).shape == (20,), name  # type: ignore[arg-type]


def test_a_score_names_the_views_of_healthy_voxels_that_it_looks_at() -> None:
    assert Nearest("x", "p_bar").healthy_views == {"p_bar"}
    assert NearestGaussian("q").healthy_views == {"q"}
    assert Density("x", "p").healthy_views == {"p"}
    assert (Regulariser() + Nearest("x", "x") + NearestGaussian("q")).healthy_views == {"x", "q"}
    for name in PAPER:
        score = CATALOGUE[name].score
        assert bool(score.healthy_views) == isinstance(score, Search), name


def test_a_number_of_neighbours_changes_distances_to_the_nearest_alone() -> None:
    for name, entry in CATALOGUE.items():
        changed = entry.score.with_neighbours(7) != entry.score
        assert changed == ("Nearest" in entry.family.split(" + ")), name
