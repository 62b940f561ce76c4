"""The sensor that asks for the instrument register while it lacks a venue, more and more rarely."""

import json
from typing import Any, Final

import dagster as dg

from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.run_tags import UNFINISHED
from k2_assets.reference.assets import JOB, lacking
from k2_core import clock

_FIRST_PAUSE_S: Final = 60.0
_LAST_PAUSE_S: Final = 3600.0


def register_sensor(lake: Lake, job: Any) -> dg.SensorDefinition:
    @dg.sensor(
        name="register_sensor",
        job=job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Asks for the instrument register soon after a start, and again while it lacks a venue.",
    )
    def ask_while_lacking(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        missing = lacking(lake)
        if not missing:
            return dg.SensorResult(skip_reason="the register holds every fed venue", cursor="")
        asked = json.loads(context.cursor or '{"again_s": 0, "pause_s": 0}')
        now_s = clock.now_s()
        if now_s < asked["again_s"]:
            return dg.SkipReason(f"{', '.join(missing)} missing; asked lately")
        if context.instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1):
            return dg.SkipReason("a refresh is under way")
        pause_s = min(max(asked["pause_s"] * 2, _FIRST_PAUSE_S), _LAST_PAUSE_S)
        cursor = json.dumps({"again_s": now_s + pause_s, "pause_s": pause_s})
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)

    return ask_while_lacking
