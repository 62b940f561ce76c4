"""The days of one run of a person or a backfill: rebuilt one after another, each reported as it ends."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.orchestration import wait_reasons
from k2_assets.orchestration.run_tags import PARTITION_TAG, RANGE_TAGS
from k2_core.logs import logger
from k2_core.settings import Settings

log = logger(__name__)

_ROUNDS: Final = 2  # what went wrong with a day may have passed when the others are done
_NAMED: Final = 5


def days_of(tags: Mapping[str, str]) -> list[date]:
    """Return the days of a run by its tags, oldest first; days that are no partitions too."""
    if PARTITION_TAG in tags:
        return [date.fromisoformat(tags[PARTITION_TAG])]
    first, last = (date.fromisoformat(tags[name]) for name in RANGE_TAGS)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def rebuild_each(
    context: dg.AssetExecutionContext, settings: Settings, rebuild: Callable[[date], dict[str, Any]]
) -> None:
    """Rebuild every day of a run; one that fails stops no other, and is tried once more after them.

    Args:
        context: of the asset that is rebuilt.
        settings: of the platform, for the reasons in the error.
        rebuild: rebuilds a day, and returns what Dagster shows of it.

    Raises:
        Failure: days could not be rebuilt; it names them.
    """
    days, failed = days_of(context.run.tags), dict[date, Exception]()
    several = len(days) > 1
    for _ in range(_ROUNDS):
        for day in list(failed) or days:
            try:
                metadata = rebuild(day)
            except Exception as error:  # the boundary of a day: logged, and named when the run fails
                if not several:
                    raise
                log.warning("not rebuilt", asset=context.asset_key.to_user_string(), day=str(day), exc_info=True)
                failed[day] = error
                continue
            failed.pop(day, None)
            context.add_asset_metadata(metadata, context.asset_key, day.isoformat())
            if several:  # now, since the step may yet fail; when it ends, Dagster reports each of its days once more
                context.log_event(
                    dg.AssetMaterialization(context.asset_key, partition=day.isoformat(), metadata=metadata)
                )
        if not failed:
            return
    reasons = [f"{day}: {wait_reasons.sentence(error, settings)}" for day, error in failed.items()]
    more = [f"and {len(reasons) - _NAMED} more"] if len(reasons) > _NAMED else []
    msg = f"{len(failed)} of {len(days)} days were not rebuilt: {'; '.join(reasons[:_NAMED] + more)}"
    raise dg.Failure(msg)
