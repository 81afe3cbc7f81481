"""How workers are named, reached and kept from others."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from qspace_nd.errors import InputError
from qspace_nd.system import machine as machines
from qspace_nd.system.machine import Machine
from qspace_nd.workflows import clusters
from qspace_nd.workflows.clusters import Local, Scheduler, SchedulerFile, Slurm, cluster_of
from tests.conftest import of_extra


@pytest.mark.parametrize(
    ("where", "cluster"),
    [
        ("local:3", Local(3)),
        ("slurm", Slurm()),
        ("slurm:12", Slurm(12)),
        ("tcp://10.0.0.1:8786", Scheduler("tcp://10.0.0.1:8786")),
        ("tls://node-1.lab:8786", Scheduler("tls://node-1.lab:8786")),
        ("there/scheduler.json", SchedulerFile(Path("there/scheduler.json"))),
    ],
)
def test_workers_are_named(where: str, cluster: object) -> None:
    assert cluster_of(where) == cluster


@pytest.mark.parametrize(
    "where",
    [
        *("", "local", "local:0", "local:-1", "local:x", "local:²", "local:99999", "slurm:0"),
        *("slurm:x", "tcp://", "tcp://host", "http://host:80", "tcp://a b:80", "host:8786"),
        "workers.txt",
    ],
)
def test_what_names_no_workers_is_refused(where: str) -> None:
    with pytest.raises(InputError, match=r"names no workers; local:N, slurm, .* is wanted"):
        cluster_of(where)


def test_processes_here_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.setattr(clusters, "remaining", lambda _: 9000)
    assert Local(3).share(Machine()) == Machine(threads=2, memory=3000)
    assert Local(20).share(Machine()).threads == 1
    asked = Machine("cpu", memory=5, threads=4)
    for cluster in (Local(3), Slurm(), Scheduler("tcp://a:1"), SchedulerFile(Path("a.json"))):
        assert cluster.share(asked) == asked
    assert machines.cores() == 7


def test_a_scheduler_that_does_not_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    of_extra("distributed")
    monkeypatch.setattr(clusters, "_CONNECT", 1)
    with (
        pytest.raises(
            InputError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1 .* check"
        ),
        Scheduler("tcp://127.0.0.1:1").connected(1),
    ):
        pass


def test_certificates_that_are_not_named_are_told_of() -> None:
    dask = of_extra("dask")
    of_extra("distributed")
    tls = "distributed.comm.tls"
    with dask.config.set({f"{tls}.ca-file": "ca.pem", f"{tls}.client.cert": None}):
        Scheduler("tcp://127.0.0.1:1").require()
        with pytest.raises(
            InputError, match=r"does not name distributed\.comm\.tls\.client\.cert;"
        ):
            Scheduler("tls://127.0.0.1:1").require()


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("tcp://127.0.0.1:1", False),
        ("tcp://localhost:1", False),
        ("tcp://[::1]:1", False),
        ("tls://10.9.8.7:1", False),
        ("tcp://10.9.8.7:1", True),
        ("tcp://node-1:1", True),
    ],
)
def test_what_goes_to_others_in_the_clear_is_warned_of(
    address: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    distributed = of_extra("distributed")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("nobody")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(InputError, match="nobody"), Scheduler(address).connected(1):
        pass
    assert ("is not encrypted" in caplog.text) == warned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "holds no address"),
        ("[]", "holds no address"),
        ("{}", "holds no address"),
    ],
)
def test_a_file_that_names_no_scheduler_is_refused(
    text: str | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"scheduler\.json {reason}.*--scheduler-file"):
        SchedulerFile(path).require()


def test_a_file_names_its_scheduler(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": "tls://10.0.0.1:8786"}))
    assert SchedulerFile(path).scheduler() == Scheduler("tls://10.0.0.1:8786")


def test_jobs_of_slurm_are_one_worker_each_and_ask_for_certificates(tmp_path: Path) -> None:
    dask = of_extra("dask")
    of_extra("dask_jobqueue")
    mine = {
        "jobqueue.slurm.cores": 4,
        "jobqueue.slurm.memory": "8GB",
        "jobqueue.slurm.processes": 4,
        "jobqueue.slurm.interface": "lo",
        "jobqueue.slurm.shared-temp-directory": str(tmp_path),
        "jobqueue.slurm.worker-extra-args": ["--lifetime", "50m"],
    }
    with dask.config.set(mine), Slurm().cluster() as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "#SBATCH --cpus-per-task=4" in script
    (line,) = (line for line in script.splitlines() if "dask_worker" in line)
    words = line.split()
    # Of an option that is given twice the last counts.
    last = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("--")}
    assert last["--nthreads"] == "1"
    assert last["--memory-limit"] == "0"
    assert last["--lifetime"] == "50m"
    assert "--nworkers" not in last
    assert Path(last["--tls-key"]).parent == folder
    assert not list(tmp_path.iterdir())


def test_what_slurm_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    dask = of_extra("dask")
    of_extra("dask_jobqueue")
    monkeypatch.setattr(clusters, "which", lambda _: None)
    mine = {"jobqueue.slurm.cores": None, "jobqueue.slurm.memory": None}
    with dask.config.set(mine), pytest.raises(InputError, match=r"slurm\.cores and jobqueue"):
        Slurm().require()
    mine = {"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "1GB"}
    with dask.config.set(mine), pytest.raises(InputError, match="There is no sbatch here"):
        Slurm().require()
