"""The sensor that keeps exactly one drain alive. It launches runs and never drains itself: ticks are at-least-once."""

import dagster as dg
import psutil

from k2_assets.automation import UNFINISHED
from k2_assets.drain.drain import beat_store
from k2_assets.drain.job import job_name, lock_file
from k2_assets.drain.run_processes import fail, fail_orphaned_runs, process_of
from k2_assets.drain.supervision import Started, Verdict, end_if_stopped, judge_from_store, leftover
from k2_core.settings import Settings


def feed_sensor(settings: Settings, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Return the sensor of the drain that the settings name."""

    @dg.sensor(
        name=f"{settings.drain.name}_feed_sensor",
        job=job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=5,
        description="Keeps one drain alive: replaces the one that ended, died or hangs.",
    )
    def keep_one_drain(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        end_if_stopped(beat_store(settings), lock_file(settings), settings.drain)
        code_server = psutil.Process()  # sensors run in it, and it starts the processes of runs
        fail_orphaned_runs(context.instance, launchers_since_s=code_server.create_time())
        if reason := _one_is_there(context.instance, settings) or _one_is_left(settings):
            return dg.SkipReason(reason)
        generation = int(context.cursor or 0) + 1
        # A run key is skipped for ever once it was used; so is this one if this tick is repeated.
        request = dg.RunRequest(run_key=f"{settings.drain.name}:{generation}")
        return dg.SensorResult(run_requests=[request], cursor=str(generation))

    return keep_one_drain


def _one_is_there(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Return why no drain is to be launched; ends and fails the runs that turn out dead."""
    filters = dg.RunsFilter(job_name=job_name(settings.drain), statuses=UNFINISHED)
    for record in instance.get_run_records(filters):
        if reason := _keeps_its_place(instance, record, settings):
            return f"run {record.dagster_run.run_id[:8]} {reason}"
    return None


def _keeps_its_place(instance: dg.DagsterInstance, record: dg.RunRecord, settings: Settings) -> str | None:
    run_id, status = record.dagster_run.run_id, record.dagster_run.status
    if status is not dg.DagsterRunStatus.STARTED:
        return f"is {status.value.lower()}"
    run = Started(run_id, record.start_time or 0.0, process_of(instance, run_id))
    judgement = judge_from_store(beat_store(settings), run, settings.drain)
    if judgement.verdict in {Verdict.ALIVE, Verdict.UNKNOWN}:
        return f"is {judgement.verdict.value}: {judgement.reason}"
    if run.process is not None and not run.process.end():
        return f"is {judgement.verdict.value}, and its process {run.process.pid} cannot be ended: {judgement.reason}"
    fail(instance, run_id, f"The drain is {judgement.verdict.value}: {judgement.reason}.")
    return None


def _one_is_left(settings: Settings) -> str | None:
    """End a drain that works on although its run is over; return why that did not succeed."""
    process = leftover(beat_store(settings), settings.drain.name)
    if process is None or process.end():
        return None
    return f"process {process.pid} of a run that is over cannot be ended"
