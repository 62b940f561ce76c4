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
        # A run starts when none is there, or as the successor of the only one that is there and due.
        alive = _end_and_fail_dead_runs(context.instance, kept)
        may_start = not alive or (len(alive) == 1 and all(is_due(kept, run_id) for run_id in alive))
        if not may_start:
            return dg.SkipReason("; ".join(f"run {run_id[:8]} {reason}" for run_id, reason in alive.items()))
        if not alive and (process := leftover(kept)) and not process.end():
            return dg.SkipReason(f"process {process.pid} of a run that is over cannot be ended")
        generation = int(context.cursor or 0) + 1
        # A run key is skipped for ever once it was used; so is this one if this tick is repeated.
        request = dg.RunRequest(run_key=f"{kept.name}:{generation}")
        return dg.SensorResult(run_requests=[request], cursor=str(generation))

    return keep_one


def _end_and_fail_dead_runs(instance: dg.DagsterInstance, kept: KeptRun) -> dict[str, str]:
    """Return the other runs, which keep their places, and why."""
    # A dead run fails only after its process is gone: its successor must never work beside it.
    alive: dict[str, str] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=kept.job, statuses=UNFINISHED)):
        run_id, status = record.dagster_run.run_id, record.dagster_run.status
        if status is not dg.DagsterRunStatus.STARTED:
            alive[run_id] = f"is {status.value.lower()}"
            continue
        run = Started(run_id, record.start_time or 0.0, process_of(instance, run_id))
        judgement = judge_from_store(run, kept)
        is_what, reason = judgement.verdict.value, judgement.reason
        if judgement.verdict in {Verdict.ALIVE, Verdict.UNKNOWN}:
            alive[run_id] = f"is {is_what}: {reason}"
        elif run.process is not None and not run.process.end():
            alive[run_id] = f"is {is_what}, and its process {run.process.pid} cannot be ended: {reason}"
        else:
            fail(instance, run_id, f"The {kept.label} is {is_what}: {reason}.")
    return alive
