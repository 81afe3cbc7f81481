"""Lose a link, a worker or a scheduler while `map --cluster` runs: what becomes of the files?

One worker is behind a link of its own: in a network namespace, joined to this machine by a pair of
virtual interfaces. The other and the scheduler are here. All speak by TLS, as is documented.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

from results import table
from timing import machine
from workers import ONE, Study

HERE, THERE = "10.213.77.1", "10.213.77.2"
LOSS = "was lost; what it did goes to another"
LONGEST = 900  # seconds that a run may take before it is said to hang


def require() -> None:
    """Check that interfaces can be made here."""
    if which("ip") is None:
        raise SystemExit("--network needs the program ip; install Debian's package iproute2.")
    if os.geteuid():
        raise SystemExit("--network makes network interfaces, as root alone may; run it as root.")


@dataclass(frozen=True)
class Link:
    """Joins this machine and a namespace, at `HERE` and `THERE`."""

    name: str

    @staticmethod
    @contextmanager
    def made() -> Iterator[Link]:
        """Make the namespace and the link, and remove both."""
        link = Link(f"qs{os.getpid()}")
        ends = f"{link.name}a", f"{link.name}b"
        _ip("netns", "add", link.name)
        try:
            _ip(*f"link add {ends[0]} type veth peer name {ends[1]} netns {link.name}".split())
            _ip(*f"addr add {HERE}/30 dev {ends[0]}".split())
            _ip(*f"link set {ends[0]} up".split())
            _ip(*f"-n {link.name} addr add {THERE}/30 dev {ends[1]}".split())
            _ip(*f"-n {link.name} link set lo up".split())
            link.set("up")
            yield link
        finally:
            _ip("link", "del", ends[0])  # and with it the other end, at once
            _ip("netns", "del", link.name)

    def set(self, state: str) -> None:
        """Take the far end up or down."""
        _ip(*f"-n {self.name} link set {self.name}b {state}".split())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def certify(folder: Path) -> None:
    """Write certificates, and name them to this program and to all that it starts."""
    import dask
    from distributed import Security

    made = Security.temporary().get_tls_config_for_role("worker")  # the same for all roles
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    named = {"CA_FILE": "ca_file"} | {
        f"{role}__{kind.upper()}": kind
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for kind in ("cert", "key")
    }
    for kind in set(named.values()):
        (folder / f"{kind}.pem").write_text(made[kind])
    os.environ |= {tls + name: str(folder / f"{kind}.pem") for name, kind in named.items()}
    dask.config.refresh()


class Programs:
    """A scheduler, a worker here and one behind the link."""

    def __init__(self, folder: Path, link: Link, stack: ExitStack) -> None:
        self._file, self._stack = folder / "scheduler.json", stack
        self._file.unlink(missing_ok=True)
        self.scheduler = self._begin([], "scheduler", "--host", f"tls://{HERE}:0")
        while not self._file.exists():
            time.sleep(0.1)
        self.address = json.loads(self._file.read_text())["address"]
        how = ["--nthreads", "1", "--memory-limit", "0"]
        self._begin([], "worker", "--host", f"tls://{HERE}", *how)
        inside = ["ip", "netns", "exec", link.name]
        self._begin(inside, "worker", "--host", f"tls://{THERE}", *how)
        self._client = self._connected()
        self._client.wait_for_workers(2)
        self.children = {_host(at): pid for at, pid in self._client.run(os.getpid).items()}

    def _begin(self, before: list[str], kind: str, *words: str) -> subprocess.Popen[bytes]:
        line = [*before, sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
        line += ["--scheduler-file", str(self._file), "--no-dashboard"]
        log = self._stack.enter_context((self._file.parent / "dask.log").open("ab"))
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
        self._stack.callback(_kill_group, process)
        return process

    def _connected(self):
        from distributed import Client

        client = Client(self.address, set_as_default=False)
        self._stack.callback(client.close, timeout=1)
        return client

    def works(self, host: str) -> bool:
        """Whether the worker at an address has a scan."""
        return any(jobs for at, jobs in self._client.processing().items() if _host(at) == host)


def _host(address: str) -> str:
    return address.split("://")[1].rpartition(":")[0]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass
class Seen:
    """What is seen of a run from outside: when, in seconds after the loss, and which files.

    `files` are the inodes that each image has had: it is written as another file and renamed.
    """

    begun: float = field(default_factory=time.monotonic)
    told: float | None = None
    ended: float | None = None
    status: int | None = None
    files: dict[Path, set[int]] = field(default_factory=lambda: defaultdict(set))

    def look(self, folder: Path) -> None:
        for path in folder.rglob("*.nii.gz"):
            if not path.name.startswith("."):
                self.files[path].add(path.stat().st_ino)

    def again(self) -> int:
        """How many images were written more than once."""
        return sum(len(inodes) > 1 for inodes in self.files.values())


@dataclass(frozen=True)
class Case:
    """Something that is lost.

    Attributes
    ----------
    lose : callable
        Loses it, when the worker behind the link has a scan.
    later : callable
        Called when the loss is told of.
    after : float
        Seconds for which files are watched when the run has ended.
    """

    lose: Callable[[Programs, Link], object]
    later: Callable[[Programs, Link], object] = lambda programs, link: None
    after: float = 0


def _down(programs: Programs, link: Link) -> None:
    link.set("down")


def _down_for_ten_seconds(programs: Programs, link: Link) -> None:
    link.set("down")
    time.sleep(10)
    link.set("up")


def _down_and_halted(programs: Programs, link: Link) -> None:
    link.set("down")
    os.kill(programs.children[THERE], signal.SIGSTOP)


def _up_and_on(programs: Programs, link: Link) -> None:
    link.set("up")
    os.kill(programs.children[THERE], signal.SIGCONT)


def _worker_killed(programs: Programs, link: Link) -> None:
    os.kill(programs.children[THERE], signal.SIGKILL)


def _scheduler_killed(programs: Programs, link: Link) -> None:
    programs.scheduler.kill()


CASES = {
    "link down for 10 s": Case(_down_for_ten_seconds),
    "link down for good": Case(_down),
    "link down, its worker halted; both back when the loss is told of": Case(
        _down_and_halted, _up_and_on, after=60
    ),
    "worker killed": Case(_worker_killed),
    "scheduler killed": Case(_scheduler_killed),
}


def lost(study: Study, name: str, case: Case) -> Seen:
    """Map by the two workers, and lose something in the middle."""
    log = study.log(name)
    with Link.made() as link, ExitStack() as stack:
        programs = Programs(study.folder, link, stack)
        process = study.start(f"--cluster {programs.address} --nthreads 1", name)
        stack.callback(process.kill)
        while not (any((study.folder / name).rglob("*.nii.gz")) and programs.works(THERE)):
            if process.poll() is not None:
                raise SystemExit(f"The run ended before anything was lost: {log.read_text()}")
            time.sleep(0.05)
        seen = Seen()
        case.lose(programs, link)
        while process.poll() is None and time.monotonic() < seen.begun + LONGEST:
            seen.look(study.folder / name)
            if seen.told is None and LOSS in log.read_text():
                seen.told = time.monotonic() - seen.begun
                case.later(programs, link)
            time.sleep(0.05)
        seen.ended, seen.status = time.monotonic() - seen.begun, process.poll()
        until = time.monotonic() + case.after
        while time.monotonic() < until:
            seen.look(study.folder / name)
            time.sleep(0.05)
    return seen


def losses(study: Study) -> tuple[str, bool]:
    """Go through all cases; a table, and whether each ends well with the files of one process."""
    certify(study.folder)
    alone = study.mapped(ONE, "one")
    rows, good = [], True
    for number, (what, case) in enumerate(CASES.items()):
        name = f"lost-{number}"
        seen = lost(study, name, case)
        status = "hangs" if seen.status is None else str(seen.status)
        if seen.status:  # as the sentence says
            study.mapped(ONE, name)
            seen.look(study.folder / name)
            status += ", again 0"
        differing = study.unlike(name, "one")
        good = good and not differing and status in ("0", "1, again 0")
        told = "-" if seen.told is None else f"{seen.told:.1f}"
        times = [told, f"{seen.ended:.1f}"]
        rows.append([what, *times, status, str(seen.again()), differing or "none"])
        print(rows[-1], study.log(name).read_text(), sep="\n", flush=True)
        print((study.folder / "dask.log").read_text(), flush=True)
    header = ["", "told of after s", "ended after s", "exit", "images written twice", "differ"]
    text = (
        "## Workers that are lost\n\n"
        "`python benchmarks/workers.py --network`: the same scans by `map --cluster tls://...`, a "
        "worker of one thread here and one behind a link of its own (a network namespace). "
        "Something is lost while the worker behind the link has a scan, and others are mapped "
        f"already; seconds count from there. One process takes {alone:.1f} s in all. "
        f"{machine()}.\n\n"
        f"{table(header, rows)}\n"
    )
    return text, good
