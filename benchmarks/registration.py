"""Registration: its error against the truth, its guard, what it costs.

    QSPACE_ND_DATA=... python benchmarks/registration.py

Heads of known deformation (ICBM152, deformed smoothly) give the error; heads of real people, with
nuisance fields that are not smooth, the correlations, the guard's figures and the tumours.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
from numpy.typing import NDArray
from results import table, write_section
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.tensor import tissue_features
from qspace_nd.registration.alignment import align
from qspace_nd.registration.guard import Guard
from qspace_nd.registration.images import Images, images_of, moved, shown_of
from qspace_nd.registration.places import Registration, register, residual
from qspace_nd.registration.template import Template, build_template
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.head import Subject, standard_table
from qspace_nd.simulation.nuisance import NUISANCES
from qspace_nd.simulation.people import read_people

HERE = Path(__file__).parent
Points = NDArray[np.floating]

SEED = 611
SHIFT, TURN, SCALE = 8.0, 8.0, 1.07  # mm, degrees, times


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    controls: int = 8
    left_out: int = 3  # heads of known deformation
    people: int = 67  # left out of each template
    templates: int = 3  # each of other people
    patients: int = 4
    tumours: int = 2  # of each size
    starts: int = 6  # registrations begun far away
    deranged: int = 200
    voxel_size: float = 3.0
    fine: float = 1.25


QUICK = Sizes(
    controls=2, left_out=1, people=2, templates=2, patients=1, tumours=1, starts=1, deranged=14,
    voxel_size=6.0, fine=5.0,
)  # fmt: skip


def images(subject: Subject, simulation: Simulation) -> Images:
    signal = subject.signal[subject.mask]
    features = tissue_features(signal / signal.mean(), simulation.table)
    return images_of(shown_of(features), subject.mask, subject.affine)


def nodes(one: Images) -> Points:
    return moved(np.argwhere(one.mask), one.affine)


# --- the error on heads whose deformation is known


def motions(random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """A shift, a turn and a scaling in directions at random, as affines of the world."""
    axis, direction = random.normal(size=(2, 3))
    shift, turn, scale = np.eye(4), np.eye(4), np.diag([SCALE, SCALE, SCALE, 1.0])
    shift[:3, 3] = SHIFT * direction / np.linalg.norm(direction)
    rotation = np.deg2rad(TURN) * axis / np.linalg.norm(axis)
    turn[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    return {
        "as it lies": np.eye(4),
        f"shifted by {SHIFT:g} mm": shift,
        f"turned by {TURN:g} degrees": turn,
        f"{(SCALE - 1) * 100:.0f} % larger": scale,
    }


def errors(
    template: Template,
    registered: Sequence[Registration],
    truths: Sequence[Callable[[Points], Points]],
    known: int,
) -> NDArray[np.float64]:
    """Mean and 95th percentile of each scan's error over the template's brain, (n, 2), in mm.

    What lies at a place in a scan is at the truth's place in ICBM152 space; the error is how far
    that is from the mean of the first `known` scans there, itself left out.
    """
    places = nodes(template)
    found = [truth(one.back(places)) for one, truth in zip(registered, truths, strict=True)]
    rows = []
    for index, one in enumerate(found):
        others = [other for i, other in enumerate(found[:known]) if i != index]
        apart = np.linalg.norm(one - np.mean(others, axis=0), axis=1)
        rows.append((apart.mean(), np.percentile(apart, 95)))
    return np.array(rows)


def known_heads(sizes: Sizes) -> str:
    simulation = Simulation(voxel_size=sizes.voxel_size, seed=SEED)
    count = sizes.controls + sizes.left_out
    scans = [images(simulation.control(index), simulation) for index in range(count)]
    template = build_template(scans[: sizes.controls])
    first = [register(one, template) for one in scans[: sizes.controls]]
    truths = [
        lambda points, index=index: simulation.common_places(index, points.astype(np.float32))
        for index in range(count)
    ]
    own = errors(template, first, truths[: sizes.controls], sizes.controls)
    affine = [Registration(one.affine, None) for one in first]
    rows = [row("controls", own, errors(template, affine, truths[: sizes.controls], len(first)))]
    random = np.random.default_rng(SEED)
    drawn = [motions(random) for _ in range(sizes.left_out)]
    for name in drawn[0]:
        late, late_truths = [], []
        for one, truth, motion in zip(
            scans[sizes.controls :], truths[sizes.controls :], drawn, strict=True
        ):
            lying = motion[name]
            late.append(register(replace(one, affine=lying @ one.affine), template))
            late_truths.append(
                lambda points, truth=truth, lying=lying: truth(moved(points, np.linalg.inv(lying)))
            )
        print(name, [round(one.residual, 4) for one in late], flush=True)
        every = truths[: sizes.controls] + late_truths
        both = [
            errors(template, before + now, every, sizes.controls)[sizes.controls :]
            for before, now in (
                (first, late),
                (affine, [Registration(one.affine, None) for one in late]),
            )
        ]
        rows.append(row(f"left out, {name}", *both))
    return table(("scans", "SyN, mean", "95 %", "affine alone, mean", "95 %"), rows)


def row(name: str, *both: NDArray[np.float64]) -> list[str]:
    return [name, *(f"{value:.2f} mm" for one in both for value in one.mean(axis=0))]


# --- heads of real people


@dataclass(frozen=True)
class People:
    """Registrations of real people's heads to a template of some of them."""

    simulation: Simulation
    template: Template
    guard: Guard
    left_out: Sequence[tuple[Images, Registration]]


@dataclass(frozen=True)
class Judged:
    """What the guard makes of a registration."""

    residual: float
    trusted: bool

    @staticmethod
    def of(value: float, guard: Guard) -> Judged:
        return Judged(value, guard.trusts(value))


@cache
def read_heads(voxel_size: float, seed: int) -> Simulation:
    """Heads of all people of `anatomy/`, in an order by the seed; of ICBM152 without data."""
    data = os.environ.get("QSPACE_ND_DATA")
    people = read_people(Path(data) / "anatomy") if data else ()
    return Simulation(
        voxel_size=voxel_size,
        seed=seed,
        anatomies=[person.labels for person in people],
        nuisance=NUISANCES["rough"],
    )


def register_people(sizes: Sizes, seed: int, pool: Executor) -> People:
    simulation = read_heads(sizes.voxel_size, seed)
    scans = [images(simulation.control(i), simulation) for i in range(sizes.controls)]
    template = build_template(scans)
    residuals = [register(one, template, among=len(scans)).residual for one in scans]
    print("controls", np.round(residuals, 4).tolist(), flush=True)
    left_out = []
    indexes = range(sizes.controls, sizes.controls + sizes.people)
    for index, found in zip(
        indexes, pool.map(partial(register_one, sizes, seed, template), indexes), strict=True
    ):
        left_out.append(found)
        print(seed, index, round(found[1].residual, 4), flush=True)
    return People(simulation, template, Guard(np.array(residuals)), left_out)


def register_one(
    sizes: Sizes, seed: int, template: Template, index: int
) -> tuple[Images, Registration]:
    simulation = read_heads(sizes.voxel_size, seed)
    one = images(simulation.control(index), simulation)
    return one, register(one, template)


def correlations(every: Sequence[People]) -> str:
    """Of the left-out people's FA with the template's, after the affine step and after SyN."""
    after, before = [], []
    for people in every:
        for one, registration in people.left_out:
            after.append(1 - registration.residual)
            alone = Registration(registration.affine, None)
            before.append(1 - residual(one, people.template, alone))
    return (
        f"{len(after)} scans of people who are left out of a template: FA correlates with the "
        f"template's by {span(before)} after the affine step and by {span(after)} after SyN."
    )


def span(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@dataclass(frozen=True)
class Deranged:
    """A registration whose places are brought elsewhere by an affine of the template's world."""

    good: Registration
    motion: NDArray[np.float64]

    def at(self, points: Points) -> Points:
        return moved(self.good.at(points), self.motion).astype(np.float32)


def derangements(random: np.random.Generator, centre: Points) -> dict[str, NDArray[np.float64]]:
    """What is done to a good registration: affines of the template's world, about its middle."""
    found = {}
    for millimetres in (8, 12, 16):
        direction = random.normal(size=3)
        found[f"shifted by {millimetres} mm"] = np.eye(4)
        shift = millimetres * direction / np.linalg.norm(direction)
        found[f"shifted by {millimetres} mm"][:3, 3] = shift
    for degrees in (8, 15):
        axis = random.normal(size=3)
        rotation = np.deg2rad(degrees) * axis / np.linalg.norm(axis)
        linear = Rotation.from_rotvec(rotation).as_matrix()
        found[f"turned by {degrees} degrees"] = about(centre, linear)
    found["left and right exchanged"] = about(centre, np.diag([-1.0, 1.0, 1.0]))
    return found


def about(centre: Points, linear: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, centre - linear @ centre
    return affine


def guarding(every: Sequence[People], sizes: Sizes) -> str:
    random = np.random.default_rng(SEED)
    good = [
        Judged.of(registration.residual, people.guard)
        for people in every
        for _, registration in people.left_out
    ]
    caught = deranged(every, sizes, random)
    rows = [guard_row("left-out people, nothing done", good)]
    rows += [guard_row(kind, judged) for kind, judged in sorted(caught.items())]
    rows += far_starts(every[0], sizes, random)
    rows += patients(every[0], sizes)
    total = sum(map(len, caught.values()))
    found = sum(not one.trusted for judged in caught.values() for one in judged)
    limits = ", ".join(f"{one.guard.middle:.3f} and {one.guard.limit:.3f}" for one in every)
    return (
        f"The guard, by {sizes.controls} controls each (median residual and limit: {limits}), "
        f"finds {found} of {total} deranged registrations, and calls "
        f"{sum(not one.trusted for one in good)} of {len(good)} good ones off.\n\n"
    ) + table(("registrations", "number", "residual (least to most)", "called off"), rows)


def deranged(
    every: Sequence[People], sizes: Sizes, random: np.random.Generator
) -> dict[str, list[Judged]]:
    """What the guard makes of good registrations that were deranged, by how."""
    caught: dict[str, list[Judged]] = {}
    for index in range(sizes.deranged):
        people, turn = every[index % len(every)], index // len(every)
        one, good = people.left_out[turn % len(people.left_out)]
        kinds = derangements(random, nodes(people.template).mean(axis=0))
        names = (*kinds, "SyN left out")
        kind = names[(index + turn // len(people.left_out)) % len(names)]
        wrong = Deranged(good, kinds[kind]) if kind in kinds else Registration(good.affine, None)
        value = residual(one, people.template, wrong)
        caught.setdefault(kind, []).append(Judged.of(value, people.guard))
    return caught


def guard_row(name: str, judged: Sequence[Judged]) -> list[str]:
    off = sum(not one.trusted for one in judged)
    return [name, str(len(judged)), span([one.residual for one in judged]), str(off)]


def far_starts(people: People, sizes: Sizes, random: np.random.Generator) -> list[list[str]]:
    """SyN from an affine that lies 40 degrees or 30 mm off, as if that step had failed."""
    values: list[float] = []
    for one, good in people.left_out[: sizes.starts]:
        axis = random.normal(size=3)
        axis /= np.linalg.norm(axis)
        centre = nodes(people.template).mean(axis=0)
        wrong = about(centre, Rotation.from_rotvec(np.deg2rad(40) * axis).as_matrix())
        if len(values) % 2:
            wrong = np.eye(4)
            wrong[:3, 3] = 30 * axis
        values.append(register(one, people.template, affine=wrong @ good.affine).residual)
    print("far starts", np.round(values, 4).tolist(), flush=True)
    judged = [Judged.of(value, people.guard) for value in values]
    return [guard_row("SyN begun 40 degrees or 30 mm away", judged)]


def patients(people: People, sizes: Sizes) -> list[list[str]]:
    """Lesions, and tumours that push: residuals, and places against those in the same head."""
    rows, simulation = [], people.simulation
    lesions: list[Images] = []
    volumes = []
    for index in range(sizes.patients):
        subject = simulation.patient(index)
        lesions.append(images(subject, simulation))
        volumes.append(subject.labels.sum() * simulation.voxel_size**3 / 1000)
    registered = [register(one, people.template) for one in lesions]
    name = f"patients with lesions ({min(volumes):.0f} to {max(volumes):.0f} ml)"
    rows.append(guard_row(name, [Judged.of(one.residual, people.guard) for one in registered]))
    for push in (5.0, 10.0, 15.0):
        pushed = replace(simulation, mass_effect=push)
        values, near, far = [], [], []
        for index in range(sizes.tumours):
            subject = pushed.patient(index)
            one = register(images(subject, pushed), people.template)
            values.append(one.residual)
            errors = tumour_errors(subject, one, registered[index % len(registered)])
            near.append(errors[0])
            far.append(errors[1])
        name = (
            f"tumours that push by {push:g} mm; places off by {np.mean(near):.1f} mm within "
            f"20 mm of them, {np.mean(far):.1f} mm elsewhere"
        )
        print(name, np.round(values, 4).tolist(), flush=True)
        rows.append(guard_row(name, [Judged.of(value, people.guard) for value in values]))
    return rows


def tumour_errors(
    subject: Subject, one: Registration, without: Registration
) -> tuple[float, float]:
    """How far tissue is placed from where it is without tumour: near the tumour, elsewhere."""
    from scipy import ndimage

    assert subject.push is not None
    size = np.linalg.norm(subject.affine[:3, :3], axis=0)
    distance = ndimage.distance_transform_edt(~subject.labels, sampling=size)
    tissue = subject.mask & ~subject.labels
    points = moved(np.argwhere(tissue), subject.affine)
    apart = np.linalg.norm(one.at(points) - without.at(points + subject.push[tissue]), axis=1)
    close = distance[tissue] <= 20
    return float(apart[close].mean()), float(apart[~close].mean())


# --- time


def costs(people: People, sizes: Sizes) -> str:
    rows = []
    few = standard_table(unweighted=1, directions=6)
    for size in (sizes.voxel_size, sizes.fine):
        simulation = replace(people.simulation, voxel_size=size, table=few)
        subject = simulation.control(sizes.controls)
        signal = subject.signal[subject.mask]
        features = tissue_features(signal / signal.mean(), few)
        points = moved(np.argwhere(subject.mask), subject.affine)
        steps = [time.process_time()]
        one = images_of(shown_of(features), subject.mask, subject.affine)
        steps.append(time.process_time())
        affine = align(one, people.template)
        steps.append(time.process_time())
        registration = register(one, people.template, affine=affine)
        steps.append(time.process_time())
        registration.at(points)
        steps.append(time.process_time())
        seconds = [f"{value:.1f} s" for value in (*np.diff(steps), steps[-1] - steps[0])]
        rows.append([f"{size:g} mm", f"{len(points):,}", *seconds])
    header = ("voxels", "number", "lattice", "affine", "SyN", "all places", "together")
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--jobs", type=int, default=1, help="processes that register people")
    parser.add_argument("-o", "--output", type=Path, default=None, help="default: RESULTS.md here")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    text = report(sizes, options.jobs)
    print(text)
    output = options.output or (HERE / ".cache" if options.quick else HERE) / "RESULTS.md"
    output.parent.mkdir(exist_ok=True)
    write_section(output, "registration", text)


def report(sizes: Sizes, jobs: int) -> str:
    command = shlex.join(["python", "benchmarks/registration.py", *sys.argv[1:]])
    known = known_heads(sizes)
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        every = [register_people(sizes, SEED + number, pool) for number in range(sizes.templates)]
    heads = len(every[0].simulation.anatomies)
    parts = [
        "## Registration",
        f"`{command}`; templates of {sizes.controls} controls, voxels of {sizes.voxel_size:g} mm, "
        "one thread.",
        "**Error against the truth**, on heads that are ICBM152 deformed: how far what lies at a "
        "place of the template is, in ICBM152 space, from the mean of the controls' there; mean "
        f"and 95th percentile over the brain, averaged over scans ({sizes.left_out} left out).",
        known,
        f"**Heads of {heads} real people**, nuisance fields not smooth; {sizes.templates} "
        f"templates, each of other {sizes.controls} of them. " + correlations(every),
        "The residual is 1 less that correlation. Deranged are the places of good registrations, "
        "which are moved as said, or SyN is left out.",
        guarding(every, sizes),
        "**Processor time** of one scan, one thread.",
        costs(every[0], sizes),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
