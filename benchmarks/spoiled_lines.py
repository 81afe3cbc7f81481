"""Options, names, links and surroundings that are not as they should be."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from mutations import CONTROLS, EITHER, HARMLESS, REFUSE, SAME, SCANS, Change, Scene, rows


def option(*words: str, drop: str = "") -> Change:
    """Add words to the line, in place of an option that it has where that is dropped."""

    def mutate(scene: Scene) -> None:
        if drop in scene.words:
            at = scene.words.index(drop)
            del scene.words[at : at + 2]
        scene.words += words

    return mutate


_NUMBERS = {
    REFUSE: ("nan", "inf", "-inf", "1e400", "", "abc", "0x10", "-1", "1,5", "--", "[1]", "1e"),
    EITHER: ("0", "1e-320", "1_0", " 5", "٣", "9" * 25, "1e300", "+2", "1e-9", "100000"),
}
_OPTIONS = {
    "map": ("--smooth", "--neighbours", "--memory", "--max-angle", "--seed", "--nthreads"),
    "fit": ("--kl-weight", "--validation", "--memory", "--max-angle", "--seed", "--latents"),
}
_PATHS = ("", "~", "~/x.nii.gz", "~nobody/x", "/dev/null", "nowhere/x", "a" * 300, "x/" * 2500)
_PATHS += ("\udcff.nii.gz", "two\nlines.nii.gz", ".", "healthy", "*", "%s{}", "patient.nii.gz/x")
_PATHS += ("/proc/self/mem", "table.bval", "é😀.nii.gz", "qspace-nd-model", "-", "/proc/self/fd")
_NAMED = {
    "map": ("-o", "--model", "--mask", "--bval", "--bvec"),
    "fit": ("--model", "--bids"),
    "eval": ("--labels", "--mask", "--within", "-o"),
    "bids map": ("-o", "--bids", "--model"),
    "check": ("", "--mask", "--model"),
}
_WORDS = ("", "nan", "latent_distance", "LATENT-DISTANCE", "x" * 5000, "-", "é", "\udcff", "[bold]")
_CHOICES = {
    "map": ("--score", "--search", "--gradients", "--device"),
    "fit": ("--preset", "--features"),
    "bids map": ("--where", "--participant-label"),
}


def _short(word: str) -> str:
    return ascii(word if len(word) < 30 else f"{word[:9]}...")


for _line, _options in _OPTIONS.items():
    rows(
        "options",
        (_line,),
        [
            (right, f"{name} {_short(number)}", option(name, number))
            for name in _options
            for right, some in _NUMBERS.items()
            for number in some
            if (name, number) not in (("--latents", "100000"), ("--latents", "1,5"))
        ],
    )
for _line, _options in _NAMED.items():
    rows(
        "options",
        (_line,),
        [
            (EITHER, f"{name} {_short(path)}", option(*filter(None, [name]), path, drop=name))
            for name in _options
            for path in _PATHS
        ],
    )
for _line, _options in _CHOICES.items():
    rows(
        "options",
        (_line,),
        [
            (REFUSE, f"{name} {_short(word)}", option(name, word))
            for name in _options
            for word in _WORDS
        ],
    )
rows("options", ("map",), [(REFUSE, "--neighbours 100000", option("--neighbours", "100000"))])
rows("options", ("fit",), [(REFUSE, "--latents 9..., 8", option("--latents", "9" * 12 + ",8"))])
rows("options", ("map", "scores"), [(REFUSE, "an option that is none", option("--treshold", "3"))])
rows("options", ("eval",), [(SAME, "-o twice", option("-o", "figures"))])


def linked(ending: str, target: str) -> Change:
    """Put a link in place of a file of the scan."""

    def mutate(scene: Scene) -> None:
        path = scene.beside(ending)
        path.unlink()
        path.symlink_to(target.format(path.name))

    return mutate


def other(ending: str, make: Callable[[Path], object]) -> Change:
    """Put something in place of a file of the scan."""

    def mutate(scene: Scene) -> None:
        path = scene.beside(ending)
        path.unlink()
        make(path)

    return mutate


def called(name: str) -> Change:
    """Give the scan and its files another name, by which the line calls it."""

    def mutate(scene: Scene) -> None:
        new = scene.scan.with_name(name).relative_to(scene.folder)
        for ending in (".nii.gz", ".bval", ".bvec", "_mask.nii.gz"):
            scene.beside(ending).rename(scene.scan.with_name(name + ending))
        old = str(scene.scan.relative_to(scene.folder))
        scene.words = [f"{new}.nii.gz" if word == old else word for word in scene.words]

    return mutate


def stored_elsewhere(scene: Scene) -> None:
    """The image alone is a link, as annexed files are."""
    (scene.folder / "store").mkdir()
    there = scene.scan.rename(scene.folder / "store/key")
    scene.scan.symlink_to(there)


def point(path: Path) -> None:
    path.write_text("/annex/objects/MD5E-s4321--0123456789abcdef0123456789abcdef.nii.gz\n")


_KINDS = {"a folder": Path.mkdir, "a pipe": os.mkfifo, "a pointer of an annex": point}
rows(
    "names",
    SCANS,
    [
        *(
            (REFUSE, f"{ending} {how}", change)
            for ending in (".nii.gz", ".bval", ".bvec", "_mask.nii.gz")
            for how, change in (
                ("a link to itself", linked(ending, "{}")),
                ("a link to nothing", linked(ending, ".git/annex/objects/none")),
                ("a link to zeros", linked(ending, "/dev/zero")),
                *((kind, other(ending, make)) for kind, make in _KINDS.items()),
            )
        ),
        (HARMLESS, "the image is a link", stored_elsewhere),
        (
            SAME,
            "._ beside it",
            lambda s: s.scan.with_name("._" + s.scan.name).write_bytes(bytes(99)),
        ),
        (SAME, "upper case", lambda s: s.beside(".bval").rename(s.beside(".BVAL"))),
    ],
)


for _line in SCANS:  # who is held out, and with it the network, goes by the names
    rows(
        "names",
        (_line,),
        [
            (EITHER if _line == "fit" else SAME, f"called {_short(name)}", called(name))
            for name in ("\udcff", "two\nlines", "é😀", "%s{0}", "[bold]x", "a b", "x" * 235)
        ],
    )


def around(prepare: Callable[[], object]) -> Change:
    """Let the process do something before its command."""

    def mutate(scene: Scene) -> None:
        scene.before = prepare

    return mutate


def variables(**values: str | None) -> Change:
    def prepare() -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return around(prepare)


def in_ascii() -> None:
    sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="ascii", closefd=False)  # noqa: SIM115


def stranger(scene: Scene) -> None:
    """A user without name or home, who may read all here and write nothing."""
    scene.before = lambda: (os.environ.pop("HOME"), os.getuid() or os.setuid(54321))


def full(*streams: int) -> Callable[[], None]:
    return lambda: [os.dup2(os.open("/dev/full", os.O_WRONLY), stream) for stream in streams]


def closed(stream: int, name: str) -> Callable[[], None]:
    """A stream that is closed, which Python finds to be none when it begins."""
    return lambda: (setattr(sys, name, None), os.close(stream))


def gone() -> None:
    place = Path("gone").absolute()
    place.mkdir()
    os.chdir(place)
    place.rmdir()


rows(
    "surroundings",
    ("check", "map", "fit", "eval", "scores", "bids map"),
    [
        (HARMLESS, "no HOME", variables(HOME=None, USER=None, LOGNAME=None)),
        (HARMLESS, "HOME is nowhere", variables(HOME="/nowhere")),
        (EITHER, "a user without name", stranger),
        (SAME, "TMPDIR is nowhere", variables(TMPDIR="/nowhere")),
        (HARMLESS, "letters of ASCII", around(in_ascii)),
        (HARMLESS, "one column", variables(COLUMNS="1")),
        (HARMLESS, "no columns", variables(COLUMNS="0", LINES="x")),
        (HARMLESS, "no colour", variables(NO_COLOR="1", TERM="xterm-256color")),
        (
            HARMLESS,
            "colours wanted",  # a terminal then, on which warnings have to be lines to be compared
            variables(FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="9999"),
        ),
        (SAME, "a backend that is none", variables(MPLBACKEND="nonsense")),
        (SAME, "cores that are none", variables(SLURM_CPUS_PER_TASK="abc")),
        (SAME, "no cores", variables(SLURM_CPUS_PER_TASK="0")),
        (EITHER, "output that is full", around(full(1))),
        (EITHER, "messages that nobody takes", around(full(2))),
        (EITHER, "both", around(full(1, 2))),
        (EITHER, "output that is closed", around(closed(1, "stdout"))),
        (HARMLESS, "input that is closed", around(closed(0, "stdin"))),
        (EITHER, "a folder that is gone", around(gone)),
    ],
)


def _folder_lines() -> Iterable[tuple[str, str, Change]]:
    def whole(scene: Scene) -> None:
        scene.words = [w for w in scene.words if w not in CONTROLS.split()]
        scene.words.insert(1, "healthy")
        (scene.folder / "healthy/control-04.nii.gz").unlink()

    def hidden(scene: Scene) -> None:
        whole(scene)
        (scene.folder / "healthy/._control-01.nii.gz").write_bytes(b"\0\5\x16\7" + bytes(4000))

    def twice(scene: Scene) -> None:
        healthy = scene.folder / "healthy"
        (healthy / "control-03.nii.gz").write_bytes((healthy / "control-02.nii.gz").read_bytes())

    def unweighted(scene: Scene) -> None:
        whole(scene)
        (scene.folder / "healthy/control-02.bval").write_text("0 0 0\n")

    yield HARMLESS, "the folder in their place", whole
    yield REFUSE, "the folder, b-values of 0 alone", unweighted
    yield HARMLESS, "the folder with ._ files", hidden
    yield REFUSE, "one scan twice", twice


rows("names", ("fit",), _folder_lines())
