from __future__ import annotations

from typing import Any, cast

import pytest

from qspace_nd.errors import ScanError
from qspace_nd.progress import SILENT, Progress
from qspace_nd.workflows.jobs import MapJob
from qspace_nd.workflows.runners import in_turn
from tests.conftest import Heard


def jobs(*names: str) -> list[MapJob]:
    """Runners look at no job."""
    return cast(Any, list(names))


def test_jobs_are_done_in_turn_and_one_that_fails_stops_no_other() -> None:
    done: list[object] = []

    def work(job: MapJob, *, progress: Progress = SILENT) -> None:
        if str(job) == "b":
            raise ScanError("b is bad.")
        done.append(job)

    ended = list(in_turn(work, jobs("a", "b", "c")))
    assert done == ["a", "c"]
    assert [one.job for one in ended] == ["a", "b", "c"]
    assert [str(one.error or "") for one in ended] == ["", "b is bad.", ""]


def test_the_next_job_waits_until_it_is_asked_for_and_is_told_who_listens() -> None:
    heard, listeners = Heard(), []

    def work(job: MapJob, *, progress: Progress = SILENT) -> None:
        listeners.append(progress)

    runner = in_turn(work, jobs("a", "b"), heard)
    assert not listeners
    next(runner)
    assert listeners == [heard]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, ZeroDivisionError])
def test_what_is_no_fault_of_the_scan_ends_the_run(failure: type[BaseException]) -> None:
    def work(job: MapJob, *, progress: Progress = SILENT) -> None:
        raise failure

    with pytest.raises(failure):
        list(in_turn(work, jobs("a", "b")))
