"""The sensor that looks for what became bad or recovered, and sends messages of it. It launches no runs."""

from functools import cache

import dagster as dg

from k2_assets.alerts.watcher import Watcher
from k2_core.settings import Settings

NAME = "alerts_sensor"


def alerts_sensor(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor."""

    @cache
    def watcher() -> Watcher:
        return Watcher(settings)

    @dg.sensor(
        name=NAME,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=round(settings.alerts.interval_s),
        description="Sends a message when a check, freshness, a run, a sensor, a kept run or a feed becomes bad, and "
        "when it recovers. `k2 alerts list` shows what is bad.",
    )
    def report_changes(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        assert context.repository_def is not None  # noqa: S101  # Dagster and tests give it
        return dg.SkipReason(watcher().look(context.instance, context.repository_def))

    return report_changes
