"""The platform ends in the midst of runs: none of them fails, and what nobody would ask for again goes on."""

import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from k2_assets.orchestration.interruptions import ends_canceled_executor, settle_interrupted_runs
from k2_assets.orchestration.run_processes import orphaned_runs, process_of
from k2_core import clock

BY_SENSOR = {"dagster/sensor_name": "epochs_sensor"}
BY_SCHEDULE = {"dagster/schedule_name": "maintain_schedule"}
OF_BACKFILL = {"dagster/backfill": "abcdefgh"}
GONE = 2**22 + 1  # beyond the largest pid


@dg.op
def breaks_off() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


@dg.op(ins={"after": dg.In(dg.Nothing)})
def follows() -> None:
    """Do nothing."""


@dg.job(executor_def=ends_canceled_executor)
def interrupted_job() -> None:
    follows(breaks_off())


@dg.op
def fails() -> None:
    raise ValueError


@dg.job(executor_def=ends_canceled_executor)
def failing_job() -> None:
    fails()


@pytest.fixture(name="instance", scope="module")
def a_dagster_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance
    for number, handler in handlers.items():  # Dagster leaves SIGTERM as SIGINT is
        signal.signal(number, handler)


def now_s() -> float:
    return clock.now_ns() / clock.NS_PER_SECOND


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def a_run(
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.NOT_STARTED,
    job: dg.JobDefinition = interrupted_job,
) -> dg.DagsterRun:
    """Return a run as the daemon creates it, for a code server that is somewhere."""
    where = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1), "__repository__")
    origin, code = RemoteJobOrigin(where, job.name), dg.reconstructable(job).get_python_origin()
    return instance.create_run_for_job(job, status=status, tags=tags, remote_job_origin=origin, job_code_origin=code)


def executed(instance: dg.DagsterInstance, job: dg.JobDefinition, tags: dict[str, str]) -> str:
    run = a_run(instance, tags, job=job)
    execute_run(dg.reconstructable(job), run, instance)
    return run.run_id


@pytest.mark.parametrize(
    ("tags", "goes_on"),
    [(BY_SENSOR, False), (BY_SCHEDULE, False), (OF_BACKFILL, True), (BY_SENSOR | OF_BACKFILL, True), ({}, True)],
    ids=["sensor's", "schedule's", "backfill's", "sensor's backfill", "person's"],
)
def test_a_run_that_a_signal_breaks_off_is_canceled_and_goes_on_if_nobody_else_asks_for_it(
    instance: dg.DagsterInstance, tags: dict[str, str], goes_on: bool
) -> None:
    run_id = executed(instance, interrupted_job, tags)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.CANCELED

    settle_interrupted_runs(instance, now_s())
    after = dg.DagsterRunStatus.QUEUED if goes_on else dg.DagsterRunStatus.CANCELED
    assert status_of(instance, run_id) is after
    assert process_of(instance, run_id) is None or not goes_on
    assert orphaned_runs(instance, now_s()) == []

    if goes_on:
        run = instance.get_run_by_id(run_id)
        assert run
        instance.report_run_canceled(run)  # by a person, in the queue
        settle_interrupted_runs(instance, now_s())
        assert status_of(instance, run_id) is dg.DagsterRunStatus.CANCELED


def test_a_run_that_fails_by_itself_has_failed(instance: dg.DagsterInstance) -> None:
    run_id = executed(instance, failing_job, OF_BACKFILL)
    settle_interrupted_runs(instance, now_s())
    assert status_of(instance, run_id) is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
@pytest.mark.parametrize(("tags", "goes_on"), [(BY_SENSOR, False), (OF_BACKFILL, True)])
def test_a_run_that_was_killed_with_the_platform_is_canceled_at_the_next_start_or_goes_on(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, tags: dict[str, str], goes_on: bool
) -> None:
    run = a_run(instance, tags, status)
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(GONE))
    queued = a_run(instance, {}, dg.DagsterRunStatus.QUEUED)

    settle_interrupted_runs(instance, now_s() + 60)

    expected = dg.DagsterRunStatus.QUEUED if goes_on else dg.DagsterRunStatus.CANCELED
    assert status_of(instance, run.run_id) is expected
    assert status_of(instance, queued.run_id) is dg.DagsterRunStatus.QUEUED


def test_a_run_that_a_person_was_canceling_stays_canceled(instance: dg.DagsterInstance) -> None:
    run = a_run(instance, OF_BACKFILL, dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(GONE))
    instance.report_run_canceling(run)

    settle_interrupted_runs(instance, now_s())

    assert status_of(instance, run.run_id) is dg.DagsterRunStatus.CANCELED


def test_a_queued_run_that_is_started_again_is_worked_on_by_its_newest_process(instance: dg.DagsterInstance) -> None:
    run_id = executed(instance, interrupted_job, OF_BACKFILL)
    settle_interrupted_runs(instance, now_s())
    run = instance.get_run_by_id(run_id)
    assert run
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(os.getpid()))

    process = process_of(instance, run_id)

    assert process
    assert process.pid == os.getpid()
    assert process.is_running()
