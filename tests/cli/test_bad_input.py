"""Every kind of bad input, each refused in one sentence with nothing written or changed.

A row of the table says what is wrong, what makes it so, the command that meets it, the file that
the message must name, and what the message must say.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import Run, call_installed, tree_of

FIT = "fit healthy/*.nii.gz --model new-model"
MAP = "map patient.nii.gz -o map.nii.gz"
EVAL = "eval --labels lesions.nii.gz"
PATIENT, MASK, LABELS = "patient.nii.gz", "patient_mask.nii.gz", "lesions.nii.gz"
CONTROL = "healthy/control-02.nii.gz"
STRICT = "--gradients strict"
IS_B0 = np.isin(np.arange(14), [0, 7])

Change = Callable[[Path], None]


# --- What makes an input bad: each function takes the folder first and changes a file in it


def edit(
    folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray], dtype: Any = np.float32
) -> None:
    """Change an image's voxels, leaving its header as it is."""
    image = nib.load(folder / name)
    data = change(np.asarray(image.dataobj).astype(dtype))
    nib.save(nib.Nifti1Image(data, image.affine), folder / name)


def edit_header(folder: Path, name: str, change: Callable[[nib.Nifti1Image], None]) -> None:
    image = nib.load(folder / name)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    change(image)
    nib.save(image, folder / name)


def edit_numbers(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a .bval or .bvec file, read as rows of numbers."""
    np.savetxt(folder / name, change(np.loadtxt(folder / name, ndmin=2)), fmt="%.6f")


def edit_text(folder: Path, name: str, change: Callable[[str], str]) -> None:
    (folder / name).write_text(change((folder / name).read_text()))


def truncate(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def move(image: nib.Nifti1Image, mm: float = 20.0) -> None:
    """Shift where the header says that the image lies."""
    affine = image.affine.copy()
    affine[0, 3] += mm
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)


def put(values: np.ndarray, where: Any, value: float) -> np.ndarray:
    values[where] = value
    return values


def in_brain(folder: Path, value: float, voxels: int = 3) -> None:
    """Put `value` into one volume of the patient in some voxels of its mask."""
    brain = np.argwhere(np.asarray(nib.load(folder / MASK).dataobj) > 0)
    where = (*brain[:: len(brain) // voxels][:voxels].T, 4)
    edit(folder, PATIENT, lambda signal: put(signal, where, value))


def negative(signal: np.ndarray) -> np.ndarray:
    """Make all but the b=0 volumes so negative that the mean is."""
    return np.where(IS_B0, signal, -signal)


def balanced(signal: np.ndarray) -> np.ndarray:
    """Make all but the b=0 volumes undo these, so that the mean is 0."""
    shares = np.array([1 / 16] * 8 + [1 / 8] * 4)
    signal[..., ~IS_B0] = -signal[..., IS_B0].sum(axis=-1, keepdims=True) * shares
    return signal


def drop_volumes(folder: Path, stem: str, number: int) -> None:
    edit(folder, f"{stem}.nii.gz", lambda signal: signal[..., :-number])
    for ending in ("bval", "bvec"):
        edit_numbers(folder, f"{stem}.{ending}", lambda rows: rows[:, :-number])


def turn(vectors: np.ndarray, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ vectors


def scale_as_ge(folder: Path) -> None:
    """One nominal b-value throughout, and shorter vectors for a lower effective one."""
    edit_numbers(folder, "patient.bval", lambda b: np.where(b > 50, 2400.0, b))
    lengths = np.where(np.arange(14) % 2, 1.0, np.sqrt(0.5))
    edit_numbers(folder, "patient.bvec", lambda g: g * lengths)


def remove_gradients(folder: Path) -> None:
    remove(folder, *(str(path.relative_to(folder)) for path in folder.rglob("*.bv*")))


def weight_everything(folder: Path) -> None:
    """Give the patient's b=0 volumes the b-value and a direction of the others."""
    edit_numbers(folder, "patient.bval", lambda b: np.full_like(b, 1200.0))
    edit_numbers(folder, "patient.bvec", lambda g: np.where(IS_B0, g[:, [1]], g))


def file_of_model(folder: Path, pattern: str) -> Path:
    return sorted((folder / "qspace-nd-model").glob(pattern))[0]


def alter(folder: Path, pattern: str) -> None:
    """Change one byte of a file of the model."""
    path = file_of_model(folder, pattern)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def newer_schema(text: str) -> str:
    return json.dumps(json.loads(text) | {"schema": 99})


def copy(folder: Path, source: str, *targets: str) -> None:
    content = (folder / source).read_bytes()
    for target in targets:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes(content)


def nothing(folder: Path) -> None:
    """Leave the folder as it is: the command itself is wrong."""


# --- The table


@dataclass(frozen=True)
class Bad:
    """A row of the table; `named` is the file that the message must name."""

    what: str
    make: Change
    line: str
    named: str
    says: str
    installed: bool = False  # in a process of its own, by the installed script


def volumes(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda folder: edit(folder, name, change)


def numbers(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda folder: edit_numbers(folder, name, change)


def header(name: str, change: Callable[[nib.Nifti1Image], None]) -> Change:
    return lambda folder: edit_header(folder, name, change)


def text(name: str, change: Callable[[str], str]) -> Change:
    return lambda folder: edit_text(folder, name, change)


# fmt: off
TABLE = [
    # Not a scan
    Bad("a missing scan", nothing, "map absent.nii.gz -o map.nii.gz", "absent.nii.gz",
        "does not exist; expected a NIfTI file or a folder", installed=True),
    Bad("a pattern without a match", nothing, "fit ill/*.nii.gz --model new-model", "ill/*.nii.gz",
        "no file matches this pattern"),
    Bad("a folder with nothing in it", lambda f: (f / "empty").mkdir(), "map empty -o maps",
        "empty", "holds no scan; expected .*BIDS.*FSL"),
    Bad("a folder with nothing in it, to fit", lambda f: (f / "empty").mkdir(),
        "fit empty --model new-model", "empty", "holds no scan"),
    Bad("a file of another kind", lambda f: (f / "notes.txt").write_text("x"),
        "map notes.txt -o map.nii.gz", "notes.txt", "not a NIfTI file by its name"),
    Bad("a mask in place of a scan", nothing, f"map {MASK} -o map.nii.gz", MASK,
        "is by its name a mask, not a scan"),
    Bad("text called NIfTI", lambda f: (f / PATIENT).write_text("a scan " * 99), MAP, PATIENT,
        "is not a NIfTI file .*expected NIfTI-1 or NIfTI-2"),
    Bad("an empty file called NIfTI", lambda f: (f / PATIENT).write_bytes(b""), MAP, PATIENT,
        "is not a NIfTI file|is truncated"),
    Bad("gzip of something else", lambda f: (f / PATIENT).write_bytes(gzip.compress(b"x" * 999)),
        MAP, PATIENT, "is not a NIfTI file"),
    Bad("truncated gzip", lambda f: truncate(f, PATIENT, 0.6), MAP, PATIENT,
        "is truncated or corrupt .*; expected a whole NIfTI file: copy or download it again"),
    Bad("gzip without its last bytes", lambda f: truncate(f, PATIENT, 0.9999), MAP, PATIENT,
        "is truncated or corrupt"),
    Bad("gzip cut in its header", lambda f: truncate(f, PATIENT, 0.0003), MAP, PATIENT,
        "is truncated or corrupt|is not a NIfTI file"),
    Bad("a truncated healthy scan", lambda f: truncate(f, CONTROL, 0.6), FIT, CONTROL,
        "is truncated or corrupt"),
    Bad("a 3-D scan", volumes(PATIENT, lambda s: s[..., 0]), MAP, PATIENT,
        r"shape \d+ x \d+ x \d+, a single volume; expected a 4-D scan"),
    Bad("a 5-D scan", volumes(PATIENT, lambda s: s[..., None, :]), MAP, PATIENT,
        "5 dimensions; expected 4"),
    Bad("a 3-D healthy scan", volumes(CONTROL, lambda s: s[..., 0]), FIT, CONTROL,
        "a single volume; expected a 4-D scan"),
    Bad("one healthy scan twice", lambda f: copy(f, CONTROL, "healthy/control-03.nii.gz"), FIT,
        "healthy/control-03.nii.gz", "holds the same scan as healthy/control-02.nii.gz"),

    # Signal that cannot be used
    Bad("NaN inside the mask", lambda f: in_brain(f, np.nan), MAP, PATIENT,
        r"3 NaN or infinite values in 3 of the \d+ voxels .*--ignore-nonfinite", installed=True),
    Bad("infinity inside the mask", lambda f: in_brain(f, np.inf), MAP, PATIENT,
        "3 NaN or infinite values in 3 of the"),
    Bad("NaN in a healthy scan", volumes(CONTROL, lambda s: put(s, (8, 10, 8, 2), np.nan)), FIT,
        CONTROL, "1 NaN or infinite values in 1 of the"),
    Bad("a negative mean", volumes(PATIENT, negative), MAP, PATIENT,
        "has a mean of -.*; expected a positive one"),
    Bad("a mean of zero", volumes(PATIENT, balanced), MAP, PATIENT,
        "has a mean of 0 .*; expected a positive one"),
    Bad("a healthy scan of negative mean", volumes(CONTROL, negative), FIT, CONTROL,
        "has a mean of -.*; expected a positive one"),
    Bad("no voxel with signal", volumes(PATIENT, lambda s: s * 0), MAP, PATIENT,
        "has no voxel with signal inside its mask"),
    Bad("an all-zero channel", volumes(PATIENT, lambda s: put(s, (..., 5), 0.0)), MAP, PATIENT,
        r"constant over its mask: 5 \(always 0\) \(counted from 0\)"),
    Bad("a constant channel", volumes(PATIENT, lambda s: put(s, (..., 6), 7.0)), MAP, PATIENT,
        r"constant over its mask: 6 \(always 7\)"),
    Bad("a constant channel of a healthy scan", volumes(CONTROL, lambda s: put(s, (..., 6), 7.0)),
        FIT, CONTROL, r"constant over its mask: 6 \(always 7\)"),

    # Masks
    Bad("an empty mask", volumes(MASK, np.zeros_like), MAP, MASK,
        "is an empty mask: no voxel is above 0.5"),
    Bad("a mask of another shape", volumes(MASK, lambda m: m[:-1]), MAP, MASK,
        r"another grid than the scan: found \d+ x .*; expected \d+ x "),
    Bad("a mask of another affine", header(MASK, move), MAP, MASK,
        r"another grid than the scan: found .*origin .*; expected .*origin"),
    Bad("a mask of several volumes", volumes(MASK, lambda m: np.stack([m, m], -1)), MAP, MASK,
        "expected a 3-D image"),
    Bad("a healthy scan's mask of another affine", header("healthy/control-02_mask.nii.gz", move),
        FIT, "healthy/control-02_mask.nii.gz", "another grid than the scan"),
    Bad("a mask that is not there", nothing, f"{MAP} --mask absent.nii.gz", "absent.nii.gz",
        "given as --mask, does not exist"),
    Bad("one mask for several scans", nothing, f"{FIT} --mask {MASK}", "--mask",
        "given for 3 scans, but each names the file of one"),

    # Gradients
    Bad("no b-values where others have them",
        lambda f: remove(f, "healthy/control-02.bval", "healthy/control-02.bvec"), FIT, CONTROL,
        "has no b-values beside it"),
    Bad("no b-values where others after it have them",
        lambda f: remove(f, "healthy/control-01.bval", "healthy/control-01.bvec"), FIT,
        "healthy/control-01.nii.gz", "has no b-values beside it"),
    Bad("no b-values where the model has them",
        lambda f: remove(f, "patient.bval", "patient.bvec"), MAP, PATIENT,
        "has no b-values beside it.*--bval"),
    Bad("b-values alone", lambda f: remove(f, "patient.bvec"), MAP, "patient.bval",
        "no b-vectors that belong to it.*--bvec"),
    Bad("b-vectors alone", lambda f: remove(f, "patient.bval"), MAP, "patient.bvec",
        "no b-values that belong to it.*--bval"),
    Bad("b-values that are not there", nothing, f"{MAP} --bval absent.bval", "absent.bval",
        "given as --bval, does not exist"),
    Bad("b-values of another count", numbers("patient.bval", lambda b: b[:, :-1]), MAP,
        "patient.bval", "has 13 b-values, but its scan has 14 volumes"),
    Bad("b-vectors of another count", numbers("patient.bvec", lambda g: g[:, :-1]), MAP,
        "patient.bvec", "has 13 b-vectors, but its scan has 14 volumes"),
    Bad("b-values that are no numbers", text("patient.bval", lambda t: t.replace("1200", "b", 1)),
        MAP, "patient.bval", "something else than numbers"),
    Bad("negative b-values", numbers("patient.bval", lambda b: -b), MAP, "patient.bval",
        "negative or not finite"),
    Bad("b-vectors not of unit length",
        numbers("patient.bvec", lambda g: g * np.where(np.arange(14) == 5, 1.5, 1.0)), MAP,
        "patient.bvec", r"not of unit length at b > 50: volume 5 \(length 1.5\)"),
    Bad("b-vectors that scale b, as GE's", scale_as_ge, MAP, "patient.bvec",
        "their lengths scale b, as GE scanners .*effective b-values .* 1200, 2400"),
    Bad("trace volumes", numbers("patient.bvec", lambda g: put(g, (slice(None), -1), 0.0)), MAP,
        "patient.bvec", r"zero vectors at b > 50: volume 13 .*trace .*0:12"),
    Bad("only trace volumes", numbers("patient.bvec", np.zeros_like), MAP, "patient.bvec",
        "only zero vectors"),
    Bad("no diffusion weighting", numbers("patient.bval", np.zeros_like), MAP, "patient.bval",
        "no b-value above 50"),
    Bad("other b-values than the model's", numbers("patient.bval", lambda b: b * 1.2), MAP, PATIENT,
        r"other b-values than the model: it lacks b=1200 and has b=1440, which .* at most 10 %"),
    Bad("other b-values, strictly", numbers("patient.bval", lambda b: b * 1.2), f"{MAP} {STRICT}",
        PATIENT, r"other b-values than the model: volumes 1 \(b=1440 for the model's 1200\)"),
    Bad("a shell that the model lacks",
        numbers("patient.bval", lambda b: np.where(np.arange(14) > 7, 2000.0, b)), MAP, PATIENT,
        "it has b=2000, which the model has not; expected 2 at b=0, 12 at b=1200, found 2 at b=0"),
    Bad("no b=0 volume", weight_everything, MAP, PATIENT,
        r"has no volume at b=0 \(14 at b=1200\), which a fit in spherical harmonics starts from"),
    Bad("other directions than the model's, and too few",
        numbers("patient.bvec", lambda g: turn(g, 9.0)), MAP, PATIENT,
        r"too few directions at b=1200.* with its 12 .* errs by 3\.8 % .* at most 3 %, .* 15 well"),
    Bad("other directions, strictly", numbers("patient.bvec", lambda g: turn(g, 9.0)),
        f"{MAP} {STRICT}", PATIENT,
        r"than the model in \d+ of 12 .*\(8\.9°\).*at most 5° in the world.*--max-angle 9"),
    Bad("other directions than allowed", numbers("patient.bvec", lambda g: turn(g, 3.0)),
        f"{MAP} {STRICT} --max-angle 2", PATIENT, "at most 2°"),
    Bad("other directions among the healthy, and too few",
        numbers("healthy/control-02.bvec", lambda g: turn(g, 9.0)), FIT, CONTROL,
        "too few directions at b=1200"),
    Bad("other directions among the healthy, strictly",
        numbers("healthy/control-02.bvec", lambda g: turn(g, 9.0)), f"{FIT} {STRICT}", CONTROL,
        "other gradient directions"),
    Bad("too few directions to resample", nothing, f"{FIT} --gradients resample",
        "healthy/control-01.nii.gz", "too few directions at b=1200"),
    Bad("too few directions for rotation-invariant features", nothing,
        f"{FIT} --features rotation-invariant", "healthy/control-01.nii.gz",
        "too few directions at b=1200.* rotation-invariant features require"),
    Bad("other channels than the model's", lambda f: drop_volumes(f, "patient", 2), MAP, PATIENT,
        "too few directions at b=1200.* with its 10"),
    Bad("other channels than the model's, strictly", lambda f: drop_volumes(f, "patient", 2),
        f"{MAP} {STRICT}", PATIENT, r"has 12 volumes .*fitted to 14 .*; take a scan of the same"),
    Bad("other channels among the healthy, strictly",
        lambda f: drop_volumes(f, "healthy/control-02", 2), f"{FIT} {STRICT}", CONTROL,
        r"has 12 volumes .* 14 "),
    Bad("rotation-invariant features without b-values", remove_gradients,
        f"{FIT} --features rotation-invariant", "healthy/control-01.nii.gz",
        "has no b-values, which rotation-invariant features are made of.*--features raw"),
    Bad("resampling without b-values", remove_gradients, f"{FIT} --gradients resample",
        "healthy/control-01.nii.gz", "has no b-values, without which .*--gradients auto"),

    # Labels and maps
    Bad("no map", nothing, f"eval absent.nii.gz --labels {LABELS}", "absent.nii.gz",
        "does not exist"),
    Bad("a folder without a map", lambda f: (f / "empty").mkdir(),
        f"eval empty --labels {LABELS}", "empty", "no novelty map in .*qspace-nd map"),
    Bad("no labels", nothing, "eval --labels absent.nii.gz", "absent.nii.gz", "does not exist"),
    Bad("labels of another shape", volumes(LABELS, lambda m: m[:-1]), EVAL, LABELS,
        r"another grid than the scan: found \d+ x .*; expected \d+ x "),
    Bad("labels of another affine", header(LABELS, move), EVAL, LABELS,
        "another grid than the scan"),
    Bad("labels without a lesion", volumes(LABELS, np.zeros_like), EVAL, LABELS,
        "no voxel as lesion"),
    Bad("labels of nothing but lesion", volumes(LABELS, np.ones_like), EVAL, LABELS,
        "every voxel .*as lesion"),
    Bad("labels that are lesion in the whole mask", lambda f: copy(f, MASK, LABELS), EVAL, LABELS,
        "every voxel .*as lesion"),
    Bad("labels outside the mask alone", volumes(LABELS, lambda m: put(m * 0, (0, 0, 0), 1.0)),
        EVAL, LABELS, "no voxel as lesion"),
    Bad("NaN in labels", volumes(LABELS, lambda m: put(m, (0, 0, 0), np.nan)), EVAL, LABELS,
        "holds NaN or infinity in 1 voxels"),
    Bad("truncated labels", lambda f: truncate(f, LABELS, 0.7), EVAL, LABELS, "is truncated"),
    Bad("a mask of the map on another grid", volumes("novelty_mask.nii.gz", lambda m: m[1:]), EVAL,
        "novelty_mask.nii.gz", "another grid than the scan"),
    Bad("a region on another grid", header("white_matter.nii.gz", move),
        f"{EVAL} --within white_matter.nii.gz", "white_matter.nii.gz", "another grid"),
    Bad("no mask of the map", lambda f: remove(f, "novelty_mask.nii.gz"), EVAL, "novelty.nii.gz",
        "mask of .* is not beside it.*--mask"),
    Bad("NaN in a map", volumes("novelty.nii.gz", lambda s: s * np.nan), EVAL, "novelty.nii.gz",
        "holds NaN or infinity in"),
    Bad("a sidecar that is not JSON", lambda f: (f / "novelty.json").write_text("{"), EVAL,
        "novelty.json", "is not a JSON sidecar"),
    Bad("more maps than labels",
        lambda f: copy(f, "novelty.nii.gz", "maps/a.nii.gz", "maps/b.nii.gz"),
        f"eval maps/a.nii.gz maps/b.nii.gz --labels {LABELS}", "--labels",
        "maps of 2 patients but 1 file for --labels; give --labels once for each"),

    # Models
    Bad("no model folder", nothing, f"{MAP} --model absent", "absent",
        "no model in absent: it does not exist; fit one first"),
    Bad("a folder that holds no model", nothing, f"{MAP} --model healthy", "healthy",
        "no model in healthy: it has no model.json"),
    Bad("a model without its weights", lambda f: file_of_model(f, "weights-*").unlink(), MAP,
        "qspace-nd-model", "is incomplete: weights-.* is missing; fit the model again"),
    Bad("a model without a part of its reference",
        lambda f: file_of_model(f, "reference/*").unlink(), MAP, "qspace-nd-model",
        "is incomplete: reference/.* is missing"),
    Bad("altered weights", lambda f: alter(f, "weights-*"), MAP, "weights-",
        "was altered after it was written"),
    Bad("an altered reference", lambda f: alter(f, "reference/*"), f"{MAP} --score input-distance",
        "qspace-nd-model/reference/", "was altered after it was written"),
    Bad("altered settings", text("qspace-nd-model/model.json", lambda t: t.replace("0.25", "0.5")),
        MAP, "qspace-nd-model/model.json", "was altered after it was written"),
    Bad("a model index that is not JSON", text("qspace-nd-model/model.json", lambda t: t[:99]),
        MAP, "qspace-nd-model/model.json", "is not a model's index"),
    Bad("a model of a newer version", text("qspace-nd-model/model.json", newer_schema), MAP,
        "qspace-nd-model/model.json", "has schema 99, .* reads up to 3; upgrade"),
    Bad("an unknown score", nothing, f"{MAP} --score novel", "novel", "latent-distance"),

    # Outputs
    Bad("a map that exists", nothing, f"map {PATIENT} --neighbours 3", "novelty.nii.gz",
        "exists already, and was made with Neighbours 10 and not 3; .* --force"),
    Bad("a sidecar of another map", lambda f: (f / "map.json").write_text("{}"), MAP, "map.json",
        "exists already"),
    Bad("a model that exists", nothing, "fit healthy/*.nii.gz", "qspace-nd-model",
        "holds a model already; .*--model.*--force"),
    Bad("a folder of other files for a model", nothing, "fit healthy/*.nii.gz --model healthy",
        "healthy", "holds other files, control-01"),
    Bad("an evaluation that exists",
        lambda f: copy(f, LABELS, "qspace-nd-eval/roc.png"), EVAL, "qspace-nd-eval/roc.png",
        "exists already"),
    Bad("a cohort that exists", nothing, "simulate . --layout flat --controls 3",
        "healthy/control-01.nii.gz", "exists already"),
    Bad("a model below a file", nothing, f"fit healthy/*.nii.gz --model {LABELS}/model",
        f"{LABELS}/model", "Nothing can be written"),
    Bad("a model in place of a file", nothing, f"fit healthy/*.nii.gz --model {LABELS}", LABELS,
        "is a file; name a folder"),
    Bad("a map below a file", nothing, f"map {PATIENT} -o {LABELS}/map.nii.gz", LABELS,
        "Nothing can be written to .* choose another folder"),
    Bad("a map where nothing can be written", nothing, f"map {PATIENT} -o /proc/map.nii.gz",
        "/proc", "Nothing can be written"),
    Bad("a map in place of a folder", lambda f: (f / "map.nii.gz").mkdir(), MAP, "map.nii.gz",
        "is a folder; name a file"),
    Bad("an evaluation below a file", nothing, f"{EVAL} -o {LABELS}/eval", f"{LABELS}/eval",
        "Nothing can be written"),
    Bad("a demo that has been run",
        lambda f: copy(f, "qspace-nd-model/model.json", "qspace-nd-demo/model/model.json"), "demo",
        "qspace-nd-demo/model", "holds a model already"),
    Bad("a cohort below a file", nothing, f"simulate {LABELS}/cohort", f"{LABELS}/cohort",
        "Nothing can be written"),
    Bad("one file for the maps of two scans", nothing,
        f"map {PATIENT} {CONTROL} -o map.nii.gz", "map.nii.gz", "2 scans to map; name a folder"),
    Bad("a map over its own scan", nothing, f"map {PATIENT} -o {PATIENT} --force", PATIENT,
        "would be overwritten by the output, but it is an input"),
]
# fmt: on


@pytest.mark.parametrize("bad", [pytest.param(row, id=row.what.replace(" ", "-")) for row in TABLE])
def test_bad_input_is_refused_in_a_sentence_and_nothing_changes(
    bad: Bad, folder: Path, call: Run
) -> None:
    bad.make(folder)
    before = tree_of(folder)
    run = call_installed if bad.installed else call
    outcome = run(f"{bad.line} -q", folder)
    assert outcome.status == 2
    assert tree_of(folder) == before
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""
    assert re.fullmatch(r"qspace-nd: [^\n]*[^.\n]\.\n", outcome.stderr), outcome.stderr
    assert not re.search(r"[.!?] +[A-Z]", outcome.stderr), "more than one sentence"
    assert bad.named in outcome.stderr
    assert re.search(bad.says, outcome.stderr), outcome.stderr


# --- What is odd but can be used: accepted, with a warning where one is due


def permute(folder: Path) -> None:
    """Store the patient's weighted volumes first and backwards, the directions' signs turned."""
    order = [*np.flatnonzero(~IS_B0)[::-1], *np.flatnonzero(IS_B0)]
    edit(folder, PATIENT, lambda signal: signal[..., order])
    edit_numbers(folder, "patient.bval", lambda b: b[:, order])
    edit_numbers(folder, "patient.bvec", lambda g: -g[:, order])


def tilt_qform(image: nib.Nifti1Image) -> None:
    affine = image.affine.copy()
    affine[:3, 3] += 30.0
    image.set_qform(affine, 1)


@dataclass(frozen=True)
class Odd:
    """A row of the second table; `warns` is empty where there is nothing to be told."""

    what: str
    make: Change
    line: str
    warns: str = ""
    same_map: bool = False


# fmt: off
ODD = [
    Odd("volumes in another order, vectors of other signs", permute, MAP, same_map=True),
    Odd("b-values 3 % off", numbers("patient.bval", lambda b: b * 1.03), MAP, same_map=True),
    Odd("b=0 that is 20", numbers("patient.bval", lambda b: b + 20), MAP, same_map=True),
    Odd("directions 3° off", numbers("patient.bvec", lambda g: turn(g, 3.0)), MAP, same_map=True),
    Odd("directions 9° off, if allowed", numbers("patient.bvec", lambda g: turn(g, 9.0)),
        f"{MAP} --max-angle 10", same_map=True),
    Odd("zero vectors at b=0", numbers("patient.bvec", lambda g: np.where(IS_B0, 0.0, g)), MAP,
        same_map=True),
    Odd("a scan of another gain", volumes(PATIENT, lambda s: s * 2.0), MAP, same_map=True),
    Odd("a qform unlike the sform", header(PATIENT, tilt_qform), MAP,
        "patient.nii.gz has a qform unlike its sform; the sform is used", same_map=True),
    Odd("NaN, to be left out", lambda f: in_brain(f, np.nan), f"{MAP} --ignore-nonfinite",
        r"patient.nii.gz: 3 of the \d+ voxels of its mask are left out, as they hold NaN"),
    Odd("infinity in a healthy scan, to be left out",
        volumes(CONTROL, lambda s: put(s, (8, 10, 8, 2), np.inf)),
        f"{FIT} --epochs 1 --ignore-nonfinite", r"control-02.nii.gz: 1 of the \d+ voxels"),
    Odd("NaN outside the mask", volumes(PATIENT, lambda s: put(s, (0, 0, 0, 4), np.nan)), MAP,
        same_map=True),
    Odd("voxels without signal", volumes(PATIENT, lambda s: put(s, slice(8), 0.0)), MAP,
        r"patient.nii.gz: \d+ of the \d+ voxels .* left out, as they have no signal \(b=0 at or"),
    Odd("some negative values", lambda f: in_brain(f, -1.0), MAP,
        r"patient.nii.gz: 3 values inside its mask .*negative.*; they are kept"),
    Odd("no mask", lambda f: remove(f, MASK), MAP,
        r"patient.nii.gz has no brain mask beside it: one of \d+ voxels was computed"),
    Odd("one healthy scan", nothing, f"fit {CONTROL} --epochs 1 --model new-model",
        "All healthy voxels are of one subject, control-02: a block of its slices is held out"),
    Odd("no b-values at all", remove_gradients, f"{FIT} --epochs 1",
        r"control-01.nii.gz HAS NO B-VALUES: .*only scans with the same channels"),
    Odd("lesion outside the mask", volumes(LABELS, lambda m: put(m, (0, 0, 0), 1.0)), EVAL,
        "lesions.nii.gz marks 1 lesion voxels outside the mask novelty_mask.nii.gz"),
]
# fmt: on


@pytest.mark.parametrize("odd", [pytest.param(row, id=row.what.replace(" ", "-")) for row in ODD])
def test_odd_input_is_used_with_a_warning_where_one_is_due(
    odd: Odd, folder: Path, call: Run
) -> None:
    odd.make(folder)
    outcome = call(f"{odd.line} -q", folder)
    assert outcome.status == 0, outcome.stderr
    warnings = outcome.stderr.splitlines()
    assert all(re.fullmatch(r"Warning: .*\.", line) for line in warnings), outcome.stderr
    assert bool(warnings) == bool(odd.warns)
    assert re.search(odd.warns, outcome.stderr), outcome.stderr
    if odd.same_map:
        novelty = {name: nib.load(folder / f"{name}.nii.gz") for name in ("map", "novelty")}
        np.testing.assert_allclose(
            novelty["map"].get_fdata(), novelty["novelty"].get_fdata(), rtol=1e-5
        )


def test_voxels_left_out_are_0_in_the_map_and_its_mask(folder: Path, call: Run) -> None:
    in_brain(folder, np.nan)
    assert call(f"{MAP} --ignore-nonfinite -q", folder).status == 0
    mask, given = (nib.load(folder / name).get_fdata() > 0 for name in ("map_mask.nii.gz", MASK))
    assert np.count_nonzero(given & ~mask) == 3
    assert not nib.load(folder / "map.nii.gz").get_fdata()[~mask].any()


def test_a_computed_mask_is_saved_beside_the_output_and_not_beside_the_scan(
    folder: Path, call: Run
) -> None:
    remove(folder, MASK, "healthy/control-01_mask.nii.gz")
    for line in (f"map {PATIENT} -o maps/novelty.nii.gz -q", f"{FIT} --epochs 1 -q"):
        assert call(line, folder).status == 0
    assert not (folder / MASK).exists()
    assert not (folder / "healthy/control-01_mask.nii.gz").exists()
    mask = nib.load(folder / "maps/novelty_mask.nii.gz").get_fdata()
    assert mask.any()
    assert json.loads((folder / "maps/novelty.json").read_text())["MaskComputed"]
    assert (folder / "new-model/masks/control-01_mask.nii.gz").is_file()


def test_the_last_scan_of_several_with_a_bad_header_keeps_the_first_from_being_mapped(
    folder: Path, call: Run
) -> None:
    edit(folder, CONTROL, lambda signal: signal[..., 0])
    before = tree_of(folder)
    outcome = call(f"map {PATIENT} {CONTROL} -o maps -q", folder)
    assert (outcome.status, tree_of(folder)) == (2, before)
    assert f"{CONTROL} has the shape" in outcome.stderr


def test_a_model_of_plain_channels_refuses_scans_with_b_values(folder: Path, call: Run) -> None:
    for name in ("healthy/control-01", "healthy/control-02", "healthy/control-03"):
        remove(folder, f"{name}.bval", f"{name}.bvec")
    assert call(f"{FIT} --epochs 1 -q", folder).status == 0
    before = tree_of(folder)
    outcome = call(f"{MAP} --model new-model -q", folder)
    assert (outcome.status, tree_of(folder)) == (2, before)
    assert "patient.nii.gz has b-values" in outcome.stderr


def test_check_reports_the_bad_scans_computes_nothing_and_exits_with_2(
    folder: Path, call: Run
) -> None:
    in_brain(folder, np.nan)
    drop_volumes(folder, "healthy/control-02", 2)
    before = tree_of(folder)
    outcome = call(f"check healthy/*.nii.gz patient.nii.gz {STRICT}", folder)
    assert (outcome.status, tree_of(folder)) == (2, before)
    assert "healthy/control-01.nii.gz: OK" in outcome.stdout
    assert "healthy/control-02.nii.gz: cannot be used" in outcome.stdout
    assert re.search(r"Problem: healthy/control-02.nii.gz has 12 volumes", outcome.stdout)
    assert re.search(r"Problem: patient.nii.gz has 3 NaN or infinite values", outcome.stdout)
    assert "2 of 4 scans can be used." in outcome.stdout
