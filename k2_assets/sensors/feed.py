"""The sensor that keeps exactly one drain alive. It launches runs and never drains itself: ticks are at-least-once."""

import dagster as dg

from k2_assets.drain.drain import beat_store
from k2_assets.drain.job import job_name
from k2_assets.drain.supervision import UNFINISHED, Verdict, fail_orphaned_runs, judge_from_store
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
        fail_orphaned_runs(context.instance)
        if reason := _one_is_there(context.instance, settings):
            return dg.SkipReason(reason)
        generation = int(context.cursor or 0) + 1
        # A run key is skipped for ever once it was used; so is this one if this tick is repeated.
        request = dg.RunRequest(run_key=f"{settings.drain.name}:{generation}")
        return dg.SensorResult(run_requests=[request], cursor=str(generation))

    return keep_one_drain


def _one_is_there(instance: dg.DagsterInstance, settings: Settings) -> str | None:
    """Return why no drain is to be launched; fails the runs that turn out dead."""
    filters = dg.RunsFilter(job_name=job_name(settings.drain), statuses=UNFINISHED)
    for record in instance.get_run_records(filters):
        run = record.dagster_run
        if run.status is not dg.DagsterRunStatus.STARTED:
            return f"run {run.run_id[:8]} is {run.status.value.lower()}"
        judgement = judge_from_store(beat_store(settings), run, record.start_time or 0.0, settings.drain)
        if judgement.verdict in {Verdict.ALIVE, Verdict.UNKNOWN}:
            return f"run {run.run_id[:8]} is {judgement.verdict.value}: {judgement.reason}"
        instance.report_run_failed(run, f"The drain is {judgement.verdict.value}: {judgement.reason}.")
    return None
