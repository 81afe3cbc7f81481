"""Maps by Dask's workers are those of one process, whatever happens to the workers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qspace_nd.errors import WorkError
from qspace_nd.progress import SILENT, Progress
from qspace_nd.system.machine import Machine
from qspace_nd.workflows import clusters
from qspace_nd.workflows.clusters import Local, SchedulerFile
from qspace_nd.workflows.dask_runner import DaskRunner
from qspace_nd.workflows.jobs import Ended, MapJob
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.runners import Work
from tests.conftest import CONTROLS, MODEL, PATIENT, Heard, Run, of_extra, tree_of

SCANS = [PATIENT, *CONTROLS[:2]]
HERE = Machine("cpu", threads=1)


@pytest.fixture(autouse=True)
def _inside(inside: Path) -> None:
    """Every test works in a folder of its own."""


@pytest.fixture
def _installed() -> None:
    of_extra("distributed")


needs_dask = pytest.mark.usefixtures("_installed")


def spoil(scan: Path) -> Path:
    """Write a scan that is found out when it is read: half of its bytes."""
    bad = Path("bad.nii.gz")
    for end in (".bval", ".bvec", "_mask.nii.gz"):
        name = scan.name.removesuffix(".nii.gz") + end
        Path(f"bad{end}").write_bytes(scan.with_name(name).read_bytes())
    content = scan.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    return bad


@needs_dask
def test_workers_write_and_say_what_one_process_does_and_listen_to_this_machine_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "qspace_nd")
    scans = [spoil(PATIENT), *SCANS]
    said, ports, heard = {}, [], Heard()

    def here(work: Work, jobs: Sequence[MapJob], progress: Progress) -> Iterator[Ended]:
        from qspace_nd.workflows.runners import in_turn

        return in_turn(work, jobs)

    def there(work: Work, jobs: Sequence[MapJob], progress: Progress) -> Iterator[Ended]:
        for ended in DaskRunner(Local(2))(work, jobs, progress):
            ports.extend(listening())
            yield ended

    for name, runner in {"here": here, "there": there}.items():
        caplog.clear()
        with pytest.raises(WorkError, match=r"1 of 4 scans could not be mapped: bad\.nii\.gz"):
            map_scans(scans, MODEL, name, machine=HERE, runner=runner, progress=heard)
        said[name] = sorted(text.replace(f"{name}/", "") for text in caplog.messages)
    assert len(tree_of(Path("here"))) > 9
    assert tree_of(Path("here")) == tree_of(Path("there"))
    assert said["here"] == said["there"]
    assert any("is one of the healthy scans" in text for text in said["there"])
    assert len(ports) >= 4 * 2  # a scheduler's, a worker's
    assert {host for host, _ in ports} == {"127.0.0.1"}
    assert (heard.names, heard.steps) == (["Mapping scans"], [4])
    assert set(heard.notes) == {"bad", "patient", "control-01", "control-02"}


def listening() -> list[tuple[str, int]]:
    """Host and port of all that this process and its children listen at."""
    import psutil

    me = psutil.Process()
    sockets = (one.net_connections() for one in (me, *me.children(recursive=True)))
    return [tuple(one.laddr) for some in sockets for one in some if one.status == "LISTEN"]


@dataclass(frozen=True)
class _Killed:
    """Work whose process is killed once, when it has written half of a job's files."""

    work: Work
    marker: Path

    def __call__(self, job: MapJob, *, progress: Progress = SILENT) -> object:
        from qspace_nd.workflows import map_one

        if not self.marker.exists():
            write = map_one.write_volume

            def die(*arguments: Any, **settings: Any) -> None:
                write(*arguments, **settings)
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

            map_one.write_volume = die  # type: ignore[assignment]
        return self.work(job, progress=progress)


@needs_dask
def test_a_worker_that_is_killed_in_the_middle_changes_no_file(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    marker = tmp_path / "killed"

    def runner(work: Work, jobs: Sequence[MapJob], progress: Progress) -> Iterator[Ended]:
        return DaskRunner(Local(1))(_Killed(work, marker), jobs, progress)

    map_scans(SCANS[:2], MODEL, "here", machine=HERE)
    map_scans(SCANS[:2], MODEL, "there", machine=HERE, runner=runner)
    assert marker.exists()
    assert "was lost; what it did goes to another" in caplog.text
    assert tree_of(Path("here")) == tree_of(Path("there"))


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of Dask's programs until the block ends."""
    command = [sys.executable, "-m", *words, "--no-dashboard"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@needs_dask
def test_when_the_scheduler_is_lost_a_sentence_says_so_and_what_is_mapped_is_not_mapped_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "scheduler.json"
    named = ("--scheduler-file", str(file))
    worker = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--host", "127.0.0.1")
    with (
        started("distributed.cli.dask_scheduler", "--host", "127.0.0.1:0", *named) as scheduler,
        started("distributed.cli.dask_worker", *worker, *named),
    ):
        while not file.exists():
            time.sleep(0.1)

        def runner(
            work: Work, jobs: Sequence[MapJob], progress: Progress
        ) -> Generator[Ended, None, None]:
            with closing(DaskRunner(SchedulerFile(file))(work, jobs, progress)) as ended:
                yield next(ended)
                scheduler.kill()
                yield from ended

        with pytest.raises(WorkError, match=r"scheduler at tcp://127.* was lost; run the same com"):
            map_scans(SCANS, MODEL, "there", machine=HERE, runner=runner)
    done = {path: path.stat().st_mtime_ns for path in Path("there").rglob("*novelty.nii.gz")}
    assert done
    caplog.clear()
    with caplog.at_level(logging.INFO):
        map_scans(SCANS, MODEL, "there", machine=HERE)
    assert f"{len(done)} of 3 scans are mapped already" in caplog.text
    assert done == {path: path.stat().st_mtime_ns for path in done}
    map_scans(SCANS, MODEL, "here", machine=HERE)
    assert tree_of(Path("here")) == tree_of(Path("there"))


SBATCH = """#!/bin/sh
script=$(cat "$1")  # it is removed when this program has ended
bash -c "$script" > /dev/null 2>&1 &
echo Submitted batch job $!
"""


@needs_dask
def test_jobs_of_slurm_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Run) -> None:
    dask = of_extra("dask")
    of_extra("dask_jobqueue")
    for name, script in {"sbatch": SBATCH, "scancel": "#!/bin/sh\nkill $1\n"}.items():
        path = tmp_path / name
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    mine = {
        "jobqueue.slurm.cores": 1,
        "jobqueue.slurm.memory": "1GB",
        "jobqueue.slurm.interface": "lo",
        "jobqueue.slurm.shared-temp-directory": str(tmp_path),
    }
    with dask.config.set(mine):
        outcome = call(f"map {PATIENT} -o there.nii.gz --cluster slurm --device cpu", Path())
    assert (outcome.status, "Asking Slurm for 1 job" in outcome.stderr) == (0, True), outcome
    assert call(f"map {PATIENT} -o here.nii.gz --device cpu", Path()).status == 0
    assert Path("there.nii.gz").read_bytes() == Path("here.nii.gz").read_bytes()


@pytest.mark.parametrize("where", ["local:2", "slurm", "tcp://127.0.0.1:1"])
def test_without_the_extra_a_sentence_says_what_to_install(
    where: str, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    before = tree_of(Path())
    for line in (f"map {PATIENT} -o new.nii.gz", "fit healthy --model new", "calibrate"):
        outcome = call(f"{line} --cluster {where}", Path())
        assert outcome.status == 2
        assert "which this installation lacks; install the extra: pip install" in outcome.stderr
    assert tree_of(Path()) == before


def test_a_cluster_that_is_none_is_refused(call: Run) -> None:
    outcome = call(f"map {PATIENT} -o new.nii.gz --cluster everywhere", Path())
    assert outcome.status == 2
    assert "'everywhere' names no workers; local:N," in outcome.stderr
