"""The sensor that keeps a kept run alive. It launches runs and never works itself: ticks are at-least-once."""

import dagster as dg

from k2_assets.kept_runs.kept_run import KeptRun
from k2_assets.kept_runs.liveness import Started, Verdict, end_if_stopped, is_due, judge_from_store, leftover
from k2_assets.orchestration.run_processes import fail, fail_orphaned_runs, process_of
from k2_assets.orchestration.run_tags import UNFINISHED
from k2_core import process_identity


def keeping_sensor(kept: KeptRun, job: dg.JobDefinition, name: str) -> dg.SensorDefinition:
    """Return the sensor ``name`` that keeps one run of ``job`` at work, and starts its successor when it is due."""

    @dg.sensor(
        name=name,
        job=job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=5,
        description=f"Keeps one {kept.label} alive: starts its successor, and replaces one that ended, died or hangs.",
    )
    def keep_one(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        end_if_stopped(kept)
        code_server = process_identity.this_process()  # sensors run in it, and it starts the processes of runs
        fail_orphaned_runs(context.instance, launchers_since_s=code_server.started)
        there = _that_are_there(context.instance, kept)
        may_start = not there or (len(there) == 1 and all(is_due(kept, run_id) for run_id in there))
        if not may_start:
            return dg.SkipReason("; ".join(f"run {run_id[:8]} {reason}" for run_id, reason in there.items()))
        if not there and (process := leftover(kept)) and not process.end():
            return dg.SkipReason(f"process {process.pid} of a run that is over cannot be ended")
        generation = int(context.cursor or 0) + 1
        # A run key is skipped for ever once it was used; so is this one if this tick is repeated.
        request = dg.RunRequest(run_key=f"{kept.name}:{generation}")
        return dg.SensorResult(run_requests=[request], cursor=str(generation))

    return keep_one


def _that_are_there(instance: dg.DagsterInstance, kept: KeptRun) -> dict[str, str]:
    """Return the runs that count, with why; ends and fails those that turn out dead."""
    filters = dg.RunsFilter(job_name=kept.job, statuses=UNFINISHED)
    found = {
        each.dagster_run.run_id: _keeps_its_place(instance, each, kept) for each in instance.get_run_records(filters)
    }
    return {run_id: reason for run_id, reason in found.items() if reason}


def _keeps_its_place(instance: dg.DagsterInstance, record: dg.RunRecord, kept: KeptRun) -> str | None:
    run_id, status = record.dagster_run.run_id, record.dagster_run.status
    if status is not dg.DagsterRunStatus.STARTED:
        return f"is {status.value.lower()}"
    run = Started(run_id, record.start_time or 0.0, process_of(instance, run_id))
    judgement = judge_from_store(run, kept)
    if judgement.verdict in {Verdict.ALIVE, Verdict.UNKNOWN}:
        return f"is {judgement.verdict.value}: {judgement.reason}"
    if run.process is not None and not run.process.end():
        return f"is {judgement.verdict.value}, and its process {run.process.pid} cannot be ended: {judgement.reason}"
    fail(instance, run_id, f"The {kept.label} is {judgement.verdict.value}: {judgement.reason}.")
    return None
