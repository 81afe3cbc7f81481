from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import InputError, ScanError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.stack import Rise, Stack, names_told

NAMED = Stack.of(3).called(["FLAIR", "T1w", "T2w"])


def test_channels_are_found_by_name_and_by_number():
    assert [NAMED.find(channel) for channel in ("T1w", "2", "1", "0", "4", "T2")] == [
        *(1, 1, 0),
        *(None, None, None),
    ]
    assert NAMED.describe() == "1 (FLAIR), 2 (T1w), 3 (T2w)"
    assert Stack.of(3).describe() == "1, 2, 3"
    assert (NAMED.is_named, Stack.of(3).is_named) == (True, False)


def test_a_change_multiplies_the_channels_that_it_names_and_says_so():
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    change = NAMED.toward("FLAIR=+, T1w=-")
    np.testing.assert_allclose(change(x), x * np.exp([[0.1, -0.1, 0]]), rtol=1e-6)
    assert change.describe() == "higher FLAIR, lower T1w"
    assert NAMED.toward("1=+,2=-") == change
    assert Stack.of(3).toward("2=-") == Rise((0.0, -0.1, 0.0), "lower channel 2")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("demyelination", "demyelination"),
        ("t2=+", "t2=+"),
        ("FLAIR=+,T1=-", "T1=-"),
        ("FLAIR=", "FLAIR="),
        ("FLAIR=+,1=+", "1=+"),
        ("FLAIR=+,", ""),
    ],
)
def test_what_is_no_change_of_the_channels_is_refused_with_their_names(text, part):
    says = rf"{re.escape(repr(part))} is not one of the channels 1 \(FLAIR\), .* write FLAIR=\+ "
    with pytest.raises(InputError, match=says):
        NAMED.toward(text)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["FLAIR", "T1w"], r"2 names of channels \(FLAIR, T1w\) were given.*have 3 channels"),
        (["T1w", "T2w", "T1w"], "Two channels are called T1w"),
        (["T1w", "T2w", "3"], "'3' is no name of a channel"),
        (["T1w", "T2w", "../x"], "'../x' is no name of a channel"),
        ([""], "'' is no name of a channel; expected letters and digits"),
    ],
)
def test_names_that_are_none_are_refused(names, says):
    with pytest.raises(InputError, match=says):
        Stack.of(3).called(names)


def test_a_channel_to_register_on_is_one_of_them():
    assert NAMED.registered_on("3") == NAMED.registered_on("T2w")
    assert NAMED.registered_on("T2w").told == "T2w"
    with pytest.raises(InputError, match=r"no channel 'T1' to register on.* 2 \(T1w\)"):
        NAMED.registered_on("T1")


def test_features_are_logarithms_and_darkness_is_all_alike():
    signals = np.array([[1.0, 2.0, 1.0], [3.0, 2.0, 0.01], [2.0, 2.0, -1.0]], np.float32)
    signals[:, 2] += 1
    features = NAMED.features(signals, "s.nii.gz")
    np.testing.assert_allclose(features[:, :2], np.log(signals[:, :2]), rtol=1e-6)
    assert features[2, 2] == pytest.approx(np.log(0.3 * signals[:, 2].mean()))
    with pytest.raises(ScanError, match=r"^s\.nii\.gz has a mean of -1 in T1w; expected one above"):
        NAMED.features(signals * [[1, -0.5, 1]], "s.nii.gz")


def test_what_is_registered_does_not_depend_on_the_unit_or_on_a_hot_voxel():
    signals = np.random.default_rng(0).uniform(1, 2, (1000, 3)).astype(np.float32)
    on = NAMED.registered_on("T1w")
    shown = on.shown(signals, "s")
    assert (shown.min(), shown.max()) == (0, 1)
    assert np.corrcoef(shown, signals[:, 1])[0, 1] > 0.99
    signals[0, 1] = 1e4
    np.testing.assert_allclose(on.shown(5 * signals, "s")[1:], shown[1:], atol=2e-3)
    signals[2:, 1] = 1
    with pytest.raises(ScanError, match=r"^s has one value in nearly all of its brain in T1w"):
        on.shown(signals, "s")


def test_a_model_remembers_its_channels_and_one_of_before_has_numbers():
    means = np.ones(3, np.float32)
    told = Acquisition(means, None, (), stack=NAMED.registered_on("T1w"))
    data = told.to_json()
    assert Acquisition.from_json(data).stack == told.stack
    del data["stack"]
    assert Acquisition.from_json(data).stack == Stack.of(3)


def test_names_are_read_from_the_nearest_file_that_has_as_many(tmp_path: Path) -> None:
    """Files of other programs may hold anything."""
    told: list[object] = [["T1w"], "T1w", ["T1w", 2], ["T1w", "T1w"], ["T1w", "../x"], None]
    paths = [tmp_path / f"{number}.json" for number in range(len(told) + 3)]
    for path, names in zip(paths, [*told, ["FLAIR", "T1w"], ["T1w", "FLAIR"]], strict=False):
        path.write_text(json.dumps({"Channels": names}))
    paths[-1].write_text("[1")
    assert names_told([paths[-1], *paths], 2) == ("FLAIR", "T1w")
    assert names_told(paths, 3) == () == names_told([], 2)
