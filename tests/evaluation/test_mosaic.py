from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from qspace_nd.evaluation.mosaic import OUTLINE, draw_mosaic, has_stamp, write_mosaic
from qspace_nd.evaluation.shown import Shown
from tests.evaluation.conftest import case_of, require_picture, turned


def shown_of(**others: object) -> Shown:
    case = case_of()
    values = {"novelty": case.novelty, "mask": case.mask, "affine": np.diag([9.0, 9.0, 9.0, 1.0])}
    return Shown(**({"share": 0.05} | values | {"title": "sub-0, latent-distance"} | others))


def texts_of(figure: Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_xlabel() for axes in figure.axes[-1:]]
    found += [axes.get_xlabel() for panel in figure.axes for axes in panel.child_axes]
    return [text for text in [*found, *(text.get_text() for text in figure.texts)] if text]


def test_a_mosaic_says_what_it_shows() -> None:
    figure = draw_mosaic(shown_of(neglogp=case_of().novelty))
    texts = texts_of(figure)
    assert texts.count("R") == texts.count("L") == 8  # all slices of the mask
    assert [text for text in texts if text.startswith("z")][:2] == ["z = 9 mm", "z = 18 mm"]
    assert "share of healthy voxels\nthat are as novel" in texts
    assert "Radiological view: the patient's\nright (R) is on the left." in texts
    assert "sub-0, latent-distance" in texts
    assert "lesions, as labelled" not in texts
    assert "lesions, as labelled" in texts_of(draw_mosaic(shown_of(labels=case_of().labels)))


def test_where_no_side_is_known_none_is_named() -> None:
    texts = texts_of(draw_mosaic(shown_of(oriented=False)))
    assert not {"R", "L"} & {*texts}
    assert "The scan's header does not say\nwhich side is right or left." in texts


def test_a_tilt_is_told() -> None:
    affine = np.eye(4)
    affine[1:3, 1:3] = [[0.9, -0.4359], [0.4359, 0.9]]
    (told,) = (text for text in texts_of(draw_mosaic(shown_of(affine=affine))) if "tilt" in text)
    assert told.endswith("Slices tilted by 26°;\nz is that of their middle.")


def test_what_is_coloured_is_what_is_above_the_threshold() -> None:
    case = case_of()
    figure = draw_mosaic(shown_of(neglogp=case.novelty, share=0.01))
    shown = [panel.images[1].get_array() for panel in figure.axes if len(panel.images) == 2]
    values = np.concatenate([image.compressed() for image in shown])
    above = case.novelty[case.mask & (case.novelty > 2)]
    assert np.sort(values) == pytest.approx(np.sort(np.clip(above, 2, 4)))


@pytest.mark.parametrize(
    ("order", "flipped"), [((0, 1, 2), ()), ((0, 1, 2), (0,)), ((2, 0, 1), (1, 2))]
)
def test_the_outline_runs_around_the_lesion_on_the_patients_left(order, flipped) -> None:
    labels = np.zeros(case_of().mask.shape, bool)
    labels[3, 8:10, 5] = True  # 2 voxels: at the left, in front
    case, affine = case_of(), np.diag([9.0, 9.0, 9.0, 1.0])
    volumes, stored = turned([case.novelty, case.mask, labels], affine, order, flipped)
    figure = draw_mosaic(Shown(volumes[0], volumes[1], stored, 0.05, labels=volumes[2]))
    lines = [
        collection.get_segments()
        for panel in figure.axes
        for collection in panel.collections
        if isinstance(collection, LineCollection) and collection.get_segments()
    ]
    (ends,) = (np.array(one) for one in lines)  # in one slice alone
    assert len(ends) == 6
    width, height = (size * 9 for size in (12, 10))  # the mask and a voxel around it
    assert (ends[..., 0].min(), ends[..., 0].max()) == (width - 9 * 3, width - 9 * 2)
    assert (ends[..., 1].min(), ends[..., 1].max()) == (9 * 7, 9 * 9)
    assert height > 9 * 9


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_picture_is_of_the_same_bytes_in_every_process_and_style(
    tmp_path: Path, kind: str
) -> None:
    shown = shown_of(labels=case_of().labels, neglogp=case_of().novelty)
    write_mosaic(tmp_path / f"here.{kind}", shown, "qspace-nd 01234")
    code = f"""
import matplotlib
matplotlib.rcParams.update({{"axes.grid": True, "font.size": 20, "savefig.dpi": 30}})
from pathlib import Path
from tests.evaluation.test_mosaic import *
shown = shown_of(labels=case_of().labels, neglogp=case_of().novelty)
write_mosaic(Path("{tmp_path}/there.{kind}"), shown, "qspace-nd 01234")
assert matplotlib.rcParams["font.size"] == 20
"""
    without = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    others = {"PYTHONHASHSEED": "7", "MPLBACKEND": "TkAgg", "SOURCE_DATE_EPOCH": "1000000000"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=without | others, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    here, there = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("here", "there"))
    assert here == there
    assert not [word for word in (b"Date", b"atplotlib", b"tmp/") if word in here]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_stamp_is_found_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"map.{kind}"
    assert not has_stamp(path, "qspace-nd")
    write_mosaic(path, shown_of(title="qspace-nd 999"), "qspace-nd 01234")
    assert has_stamp(path, "qspace-nd") and has_stamp(path, "qspace-nd 01234")
    assert not has_stamp(path, "qspace-nd 999")
    write_mosaic(path, shown_of())
    assert not has_stamp(path, "")


def test_what_is_far_beyond_the_scale_is_drawn(tmp_path: Path) -> None:
    novelty = case_of().novelty.copy()
    novelty[case_of().labels] = 3e38
    write_mosaic(tmp_path / "map.png", shown_of(novelty=novelty))
    require_picture(tmp_path / "map.png")


@pytest.mark.parametrize("title", ["$x^2$, 100 %", "患者", "a\udcff", "x" * 300, ""])
def test_any_name_can_be_drawn(tmp_path: Path, title: str) -> None:
    write_mosaic(tmp_path / "map.png", shown_of(title=title))
    write_mosaic(tmp_path / "map.pdf", shown_of(title=title))
    require_picture(tmp_path / "map.png")


@pytest.mark.parametrize("shape", [(40, 2, 40), (2, 40, 40), (1, 1, 1), (40, 40, 1)])
def test_thin_slabs_leave_room_for_all_words(shape: tuple[int, int, int], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shown = Shown(random.random(shape), np.ones(shape, bool), np.eye(4), 0.05)
    write_mosaic(tmp_path / "map.png", shown)
    require_picture(tmp_path / "map.png")
    figure = draw_mosaic(shown)
    panel = figure.axes[0].get_window_extent()
    assert min(panel.width, panel.height) >= 0.99 * 1.5 * figure.dpi


def test_a_picture_is_black_around_and_has_the_outlines_colour(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "map.png", shown_of(labels=case_of().labels))
    pixels = imread(tmp_path / "map.png")[..., :3]
    assert not pixels[0].any() and not pixels[-1].any()
    blue = np.array(matplotlib.colors.to_rgb(OUTLINE))
    assert (abs(pixels - blue).max(axis=-1) < 0.02).any()
    write_mosaic(tmp_path / "none.png", replace(shown_of(), labels=None))
    assert not (abs(imread(tmp_path / "none.png")[..., :3] - blue).max(axis=-1) < 0.02).any()
