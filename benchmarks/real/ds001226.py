"""Tumours before surgery (OpenNeuro ds001226, BTC pre-op, CC0): 11 controls, 25 patients.

    python benchmarks/real/ds001226.py DIR

fits a model on the controls of the dataset in DIR, maps the patients, and holds the maps against
the tumour masks: ours and, by the same registration, z-maps of b=0, MD and FA and the Mahalanobis
distance of the three. Glioma and meningioma are told apart. A section of RESULTS.md is written.

download (anatomical and diffusion scans and the tumour masks alone are needed):

    aws s3 sync --no-sign-request s3://openneuro.org/ds001226 DIR \\
        --exclude '*' --include participants.tsv --include dataset_description.json \\
        --include 'sub-*/*/dwi/*' --include 'sub-*/*/anat/*' --include 'derivatives/tumor_masks/*'
    (or: openneuro download ds001226 DIR; or: datalad install -s
    https://github.com/OpenNeuroDatasets/ds001226.git DIR, then datalad get of the same folders)

preprocess, in one of two ways; the scans with reversed phase encoding (acq-PA) serve to correct
distortions, and are left out here:

  QSIPrep, into DIR/derivatives/qsiprep:

    qsiprep DIR DIR/derivatives/qsiprep participant --output-resolution 2.5 \\
        --fs-license-file license.txt

    QSIPrep turns heads to the AC-PC line, and the tumour masks lie on the T1-weighted scan as it
    was: bring each to the same space, by the transform that QSIPrep wrote into its anat folder,
    and name the folder of them with --labels:

    antsApplyTransforms -d 3 -n Linear -i sub-PAT01_space_T1_label-tumor.nii \\
        -r sub-PAT01_space-ACPC_desc-preproc_T1w.nii.gz \\
        -t sub-PAT01_from-T1wNative_to-T1wACPC_mode-image_xfm.mat \\
        -o LABELS/sub-PAT01_space-ACPC_label-tumor.nii.gz

  topup and eddy (here by MRtrix), which leave the head where the scanner had it:

    for each subject X: dwidenoise X_acq-AP, mrdegibbs; dwifslpreproc -pe_dir AP -rpe_pair
    -se_epi (the first b=0 of acq-AP and of acq-PA) -eddy_options ' --slm=linear'; dwi2mask;
    written as

    DIR/derivatives/eddy/X/ses-preop/dwi/X_ses-preop_acq-AP_desc-preproc_dwi.{nii.gz,bval,bvec}
    DIR/derivatives/eddy/X/ses-preop/dwi/X_ses-preop_acq-AP_desc-brain_mask.nii.gz

    with the b-vectors that eddy rotated. The tumour masks are then taken as they are, where the
    scanner's coordinates of the T1-weighted and of the diffusion scans put them. Who moved between
    the two needs masks that were brought over (flirt, epi_reg): name their folder with --labels.
"""

from __future__ import annotations

import argparse
import csv
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import _benchmarks
from heads_tables import FWHM, KNOWS, MAHALANOBIS, SIGNED, UNSIGNED
from patients import Patient, Study, section, tensor_rivals, white_matter
from placed_peers import DIRECTED, UNDIRECTED
from results import write_section

from qspace_nd import MapSettings
from qspace_nd.errors import InputError, listed
from qspace_nd.layouts.names import PARTICIPANTS, is_image, parse_entities

# What was looked up: participants.tsv has the columns `participant_id`, ` sex`, ` age` (with a
# blank in front) and `tumor type & grade`, which says `none` of controls and names of tumours with
# a grade of others, `Meningioma I` or `Oligodendroglioma II`; it has no column of groups. Subjects
# are called sub-CON01 and sub-PAT01, and numbers are left out. Scans are
# sub-X/ses-preop/dwi/sub-X_ses-preop_acq-{AP,PA}_dwi, and masks, of values from 0 to 1 on the grid
# of the T1-weighted scan, derivatives/tumor_masks/sub-X/anat/sub-X_space_T1_label-tumor.nii beside
# others in MNI space (space_MNI). The dataset holds no preprocessed scans.
# What is assumed: how QSIPrep's versions call their transforms, and that all are glioma who are no
# controls and have no meningioma.

KIND = "tumor type & grade"
CONTROL, GLIOMA, MENINGIOMA = "control", "glioma", "meningioma"
NO_TUMOUR = ("none", "n/a", "")
PREFIXES = {"CON": True, "PAT": False}
"""Who is healthy by the names of subjects."""

TOWARD = "oedema"
OURS = (*UNDIRECTED, f"{DIRECTED[-1]}, toward {TOWARD}")
TOLD = {
    **{name: KNOWS[name] for name in UNDIRECTED},
    OURS[-1]: "place, sign",
    **{name: KNOWS[name] for name in (*SIGNED, *UNSIGNED, MAHALANOBIS)},
}
"""What each method knows beside the controls' scans."""


def groups(dataset: Path) -> dict[str, str]:
    """The group of each subject, by the kind of tumour and held against the name.

    Raises
    ------
    InputError
        There is no table, it has not the column, or it says otherwise than a name.
    """
    path = dataset / PARTICIPANTS
    if not path.is_file():
        raise InputError(f"{path} does not exist; name the folder that ds001226 was loaded into.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [
            {(key or "").strip(): (value or "").strip() for key, value in row.items()}
            for row in csv.DictReader(file, delimiter="\t")
        ]
    if not rows or KIND not in rows[0]:
        raise InputError(
            f"{path} has no column {KIND!r}, by which glioma and meningioma are told apart; take "
            f"the table of ds001226."
        )
    found = {row["participant_id"]: _group(row[KIND].casefold()) for row in rows}
    for name, group in found.items():
        healthy = PREFIXES.get(name.removeprefix("sub-")[:3])
        if healthy is not None and healthy != (group == CONTROL):
            raise InputError(
                f"{path} has {name} as {group}, but the name says otherwise; correct the table."
            )
    return found


def _group(kind: str) -> str:
    if kind in NO_TUMOUR:
        return CONTROL
    return MENINGIOMA if MENINGIOMA in kind else GLIOMA


def preprocessed(dataset: Path, pipeline: str) -> dict[str, Path]:
    """The preprocessed scan of each subject, those with reversed phase encoding left out.

    Raises
    ------
    InputError
        There is none, or a subject has several.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(dataset.glob(f"derivatives/{pipeline}/sub-*/**/*_desc-preproc_dwi.nii*")):
        entities = parse_entities(path)
        if entities and "PA" not in (entities.get("acq"), entities.get("dir")):
            found.setdefault(f"sub-{entities['sub']}", []).append(path)
    if not found:
        raise InputError(
            f"{dataset} has no preprocessed scan, derivatives/{pipeline}/sub-*/**/"
            f"*_desc-preproc_dwi.nii.gz; preprocess it as --help says."
        )
    for name, paths in found.items():
        if len(paths) > 1:
            raise InputError(
                f"{name} has several preprocessed scans ({listed(paths)}); say with --pipeline "
                f"which folder of derivatives to take."
            )
    return {name: paths[0] for name, paths in found.items()}


def labels_of(name: str, folder: Path, scan: Path) -> Path:
    """The tumour mask of a subject, in the space of its scan.

    Raises
    ------
    InputError
        There is none, there are several, or it lies in another space by its name.
    """
    found = [
        path
        for path in sorted(folder.rglob(f"{name}_*"))
        if is_image(path) and "tumor" in path.name.casefold() and "MNI" not in path.name
    ]
    if len(found) != 1:
        raise InputError(
            f"{folder} has {len(found)} tumour masks of {name} that are not in MNI space; expected "
            f"one, {name}_space_T1_label-tumor.nii for instance: name their folder with --labels."
        )
    space = parse_entities(scan).get("space", "")
    if space and f"space-{space}" not in found[0].name:
        raise InputError(
            f"{found[0]} lies on the T1-weighted scan, and {scan.name} in the space {space}, to "
            f"which QSIPrep turned the head; bring the masks there as --help says, and name their "
            f"folder with --labels."
        )
    return found[0]


def cohort(
    dataset: Path, pipeline: str, labels: Path | None
) -> tuple[list[Path], list[Patient], list[str]]:
    """The controls' scans, the patients, and who has no preprocessed scan."""
    scans, told = preprocessed(dataset, pipeline), groups(dataset)
    unknown = sorted(scans.keys() - told.keys())
    if unknown:
        raise InputError(f"{dataset / PARTICIPANTS} has no row of {listed(unknown)}; complete it.")
    folder = labels or dataset / "derivatives" / "tumor_masks"
    healthy = [scan for name, scan in scans.items() if told[name] == CONTROL]
    patients = [
        Patient(name, told[name], scan, labels_of(name, folder, scan))
        for name, scan in scans.items()
        if told[name] != CONTROL
    ]
    if not healthy or not patients:
        raise InputError(
            f"{dataset} has preprocessed scans of {len(healthy)} controls and {len(patients)} "
            f"patients; both are wanted: preprocess them."
        )
    return healthy, patients, sorted(told.keys() - scans.keys())


def markdown(study: Study, patients: Sequence[Patient], healthy: int, **how: str) -> str:
    """The section of RESULTS.md."""
    results = study.results(patients)
    native = any("space_T1" in one.labels.name for one in patients)
    return "\n\n".join(
        [
            "## Tumours before surgery, ds001226 (real scans)",
            f"`{how['command']}`: {healthy} controls to learn from. The maps are held against the "
            "drawn tumours, resampled onto their grid"
            + (
                ", which the scanner's coordinates put on the diffusion scans, without registration"
                if native
                else ""
            )
            + ". Means over patients with their 95 % interval; lesions found at so many false "
            "clusters a scan; the best Dice, which nobody knows without labels. White matter is "
            "where the controls' mean FA at the place is above 0.25, and the tumours. All that "
            "know the place know it by one registration to the controls' template.",
            section(results, TOLD, OURS) if results else "Nobody could be evaluated.",
            *_told(study, how["absent"]),
        ]
    )


def _told(study: Study, absent: str) -> Iterator[str]:
    if study.left_out:
        lines = [f"- {name}: {why}" for name, why in study.left_out.items()]
        yield "\n".join(["Left out:", "", *lines])
    if absent:
        yield f"Not preprocessed: {absent}."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DIR", help="the dataset, preprocessed")
    parser.add_argument(
        "--pipeline", default="*", help="folder of DIR/derivatives with the preprocessed scans"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="of tumour masks that were brought over"
    )
    _benchmarks.add_options(parser)
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/real/ds001226.py", *_benchmarks.told(arguments)])
    try:
        healthy, patients, absent = cohort(options.dataset, options.pipeline, options.labels)
        scores = (*UNDIRECTED, DIRECTED[-1])
        settings = MapSettings(scores, smooth=FWHM, toward=TOWARD)
        study = Study(options.cache / "ds001226", settings, tensor_rivals, white_matter)
        study.fit(healthy, quick=options.quick, template=True)
        text = markdown(study, patients, len(healthy), command=command, absent=", ".join(absent))
    except InputError as error:
        parser.error(str(error))
    print(text)
    write_section(_benchmarks.results(options), "ds001226", text)


if __name__ == "__main__":
    main()
