"""The workers that do jobs in place of this process: who they are, and how they are reached.

Whoever reaches the port of a scheduler or a worker has code run as its user. So what is started
here asks for certificates that are made for the run and kept in memory, by TLS; on this machine it
listens to this machine alone. Dask's own limit of a worker's memory is off: it counts what is
mapped into memory, which the system takes back when it needs it, and kills for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from qspace_nd.errors import InputError, WorkError, counted
from qspace_nd.system.machine import Machine, cores
from qspace_nd.system.memory import remaining

if TYPE_CHECKING:
    from distributed import Client, Security

FORMS = "local:N, slurm, slurm:N, tcp://HOST:PORT, tls://HOST:PORT or FILE.json"
"""How a cluster is named."""

_MOST_LOCAL, _MOST_JOBS = 4096, 16
_CONNECT = 20  # seconds that a scheduler has to answer
_NO_PAGES: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}

_log = logging.getLogger(__name__)


class Cluster(Protocol):
    """Workers that can be reached."""

    def share(self, machine: Machine) -> Machine:
        """What one worker may use, where `machine` is what was asked for."""

    def require(self) -> None:
        """Check what can be checked without starting anything.

        Raises
        ------
        InputError
            What it needs is not installed or not there.
        """

    def connected(self, jobs: int) -> AbstractContextManager[Client]:
        """Reach the workers, which `jobs` jobs wait for, and let go of them after the block.

        Raises
        ------
        InputError
            No scheduler answers.
        """


def cluster_of(where: str) -> Cluster:
    """Find what is meant by local:N, an address, a scheduler's file or slurm.

    Raises
    ------
    InputError
        It is none of these.
    """
    kind, _, number = where.partition(":")
    if kind == "local" and _is_number(number, _MOST_LOCAL):
        return Local(int(number))
    if kind == "slurm" and (where == kind or _is_number(number, _MOST_LOCAL)):
        return Slurm(int(number) if number else None)
    if re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+/?", where):
        return Scheduler(where)
    if where.endswith(".json"):
        return SchedulerFile(Path(where).expanduser())
    raise InputError(f"{where!r} names no workers; {FORMS} is wanted.")


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= most


@dataclass(frozen=True)
class Local:
    """So many processes on this machine."""

    workers: int

    def share(self, machine: Machine) -> Machine:
        """An equal share of the cores and of the memory, where nothing else is asked for."""
        return replace(
            machine,
            threads=machine.threads or max(1, cores() // self.workers),
            memory=machine.memory or max(1, remaining(None) // self.workers),
        )

    def require(self) -> None:
        """See `Cluster`."""
        _require_installed("distributed")

    @contextmanager
    def connected(self, jobs: int) -> Iterator[Client]:
        """See `Cluster`; no more processes are started than there are jobs."""
        import dask
        from distributed import Client, LocalCluster, Security

        with (
            dask.config.set(_NO_PAGES),
            LocalCluster(
                n_workers=min(self.workers, jobs),
                threads_per_worker=1,
                host="127.0.0.1",
                security=Security.temporary(),
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


@dataclass(frozen=True)
class Slurm:
    """Jobs of Slurm, a worker each, that the user's own configuration of Dask describes.

    `jobs` is how many at most; None for as many as there are scans, up to 16.
    """

    jobs: int | None = None

    def share(self, machine: Machine) -> Machine:
        """As it was asked for: a worker sees for itself what Slurm gives it."""
        return machine

    def require(self) -> None:
        """See `Cluster`."""
        _require_installed("distributed", "dask_jobqueue")
        import dask
        import dask_jobqueue  # noqa: F401  it reads the user's configuration

        needed = ("jobqueue.slurm.cores", "jobqueue.slurm.memory")
        unsaid = [name for name in needed if dask.config.get(name, None) is None]
        if unsaid:
            raise InputError(
                f"Dask's configuration does not say {' and '.join(unsaid)}, what a job of Slurm "
                f"may use; write it into ~/.config/dask/jobqueue.yaml."
            )
        if which("sbatch") is None:
            raise InputError(
                "There is no sbatch here, which asks Slurm for jobs; run this where there is."
            )

    @contextmanager
    def connected(self, jobs: int) -> Iterator[Client]:
        """See `Cluster`."""
        from distributed import Client

        number = min(jobs, self.jobs or _MOST_JOBS)
        with ExitStack() as stack:
            try:
                cluster = stack.enter_context(self.cluster())
                _log.info(f"Asking Slurm for {counted(number, 'job')}")
                cluster.scale(jobs=number)
                cluster.sync(cluster._correct_state)  # sbatch is called by it
            except (ValueError, RuntimeError, OSError) as error:
                raise WorkError(
                    f"Slurm gave no jobs ({_reason(error)}); see what Dask's configuration asks "
                    f"for, in ~/.config/dask/jobqueue.yaml."
                ) from error
            yield stack.enter_context(Client(cluster))

    @contextmanager
    def cluster(self) -> Iterator[Any]:
        """The scheduler, here, before any job is asked for."""
        import dask
        import dask_jobqueue

        configured = {
            name: dask.config.get(f"jobqueue.slurm.{name}", None)
            for name in ("worker-extra-args", "scheduler-options", "shared-temp-directory")
        }
        shared = os.path.expandvars(configured["shared-temp-directory"] or "~")
        with (
            TemporaryDirectory(prefix=".qspace-nd-", dir=Path(shared).expanduser()) as folder,
            dask.config.set(_NO_PAGES),
            dask_jobqueue.SLURMCluster(
                processes=1,
                security=_certificates(Path(folder)),
                worker_extra_args=[
                    *(configured["worker-extra-args"] or ()),
                    *("--nthreads", "1", "--memory-limit", "0", "--no-dashboard"),
                ],
                scheduler_options={
                    "dashboard": False,
                    "dashboard_address": "127.0.0.1:0",
                    **(configured["scheduler-options"] or {}),
                },
                silence_logs=logging.CRITICAL,
            ) as cluster,
        ):
            yield cluster


def _certificates(folder: Path) -> Security:
    """Make certificates for a run, as files in a folder that its user alone can open."""
    from distributed import Security

    made = Security.temporary().get_tls_config_for_role("worker")  # the same for all roles
    files = {}
    for kind in ("ca_file", "cert", "key"):
        files[kind] = str(folder / f"{kind}.pem")
        Path(files[kind]).write_text(made[kind], encoding="ascii")
    roles = {
        f"tls_{role}_{kind}": files[kind]
        for role in ("scheduler", "worker", "client")
        for kind in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files["ca_file"], **roles)


@dataclass(frozen=True)
class Scheduler:
    """Workers that somebody else has started, by the address of their scheduler."""

    address: str

    def share(self, machine: Machine) -> Machine:
        """As it was asked for: a worker sees for itself how many cores it has."""
        return machine

    def require(self) -> None:
        """See `Cluster`."""
        _require_installed("distributed")
        import dask
        import distributed  # noqa: F401  it reads the user's configuration

        tls = "distributed.comm.tls"
        needed = (f"{tls}.ca-file", f"{tls}.client.cert")
        unsaid = [name for name in needed if dask.config.get(name, None) is None]
        if self.address.startswith("tls://") and unsaid:
            raise InputError(
                f"{self.address} asks for certificates, and Dask's configuration does not name "
                f"{' and '.join(unsaid)}; write them into ~/.config/dask/distributed.yaml."
            )

    @contextmanager
    def connected(self, jobs: int) -> Iterator[Client]:
        """See `Cluster`."""
        import dask
        from distributed import Client

        if not (self.address.startswith("tls://") or _is_here(self.address)):
            _log.warning(
                f"What goes to {self.address} and comes back is not encrypted, and whoever reaches "
                f"that port can run programs as the user of its workers; use tls:// outside a "
                f"network that you trust."
            )
        try:
            # A scheduler that is lost is told of at once.
            with dask.config.set({"distributed.comm.timeouts.connect": f"{_CONNECT}s"}):
                client = Client(self.address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"No Dask scheduler answers at {self.address} ({_reason(error)}); check that it "
                f"runs and can be reached from here."
            ) from error
        with client:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                _log.warning(f"The scheduler at {self.address} has no worker yet; waiting for one")
            yield client


@dataclass(frozen=True)
class SchedulerFile:
    """The same, by the file that a scheduler writes (`dask scheduler --scheduler-file`)."""

    path: Path

    def share(self, machine: Machine) -> Machine:
        """See `Scheduler`."""
        return machine

    def require(self) -> None:
        """See `Cluster`."""
        self.scheduler().require()

    def connected(self, jobs: int) -> AbstractContextManager[Client]:
        """See `Cluster`."""
        return self.scheduler().connected(jobs)

    def scheduler(self) -> Scheduler:
        """Whom the file names.

        Raises
        ------
        InputError
            It cannot be read, or names nobody.
        """
        try:
            return Scheduler(str(json.loads(self.path.read_text(encoding="utf-8"))["address"]))
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        except (ValueError, KeyError, TypeError):
            reason = "holds no address of a scheduler"
        raise InputError(
            f"{self.path} {reason}; name the file that the scheduler writes (dask scheduler "
            f"--scheduler-file {self.path.name})."
        )


def _require_installed(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--cluster needs {' and '.join(missing)}, which this installation lacks; install the "
            f"extra: pip install 'qspace-nd[cluster]'."
        )


def _is_here(address: str) -> bool:
    """Whether an address is one that this machine alone can reach."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split()).rstrip(".:") or type(error).__name__
