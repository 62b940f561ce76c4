"""The commands ``k2 rejected …``, by which a person has rejected rows judged again."""

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from k2_core import clock
from k2_core.settings import load_settings
from k2_core.venues import VENUES

_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.group()
def rejected() -> None:
    """Judge again what was rejected for a fault of ours; `k2-query rejected` shows it."""


@rejected.command()
@click.argument("venue", type=click.Choice(list(VENUES)))
@click.option(
    "--from",
    "first",
    type=_DAY,
    metavar="YYYY-MM-DD",
    required=True,
    help="first day of receipt (UTC), by the clock at that time",
)
@click.option("--to", "last", type=_DAY, metavar="YYYY-MM-DD", required=True, help="last day of receipt, inclusive")
@click.option("--behind-minutes", type=click.IntRange(1), help="the clock was behind by at most so much; default: any")
@click.option("--dry-run", is_flag=True, help="only report what would be done")
def reprocess(venue: str, first: datetime, last: datetime, behind_minutes: int | None, dry_run: bool) -> None:
    """Accept trades and quotes of VENUE that were rejected only because this machine's clock was behind.

    Rows of timestamp_in_future whose time has come by now become rows of silver; gold and candles follow by
    themselves. The decision is recorded with the table, so that later rebuilds give the same rows. May be repeated.

    \b
    Example:
      k2 rejected reprocess kraken --from 2026-11-21 --to 2026-11-22 --dry-run
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is
    from k2_assets.decode.clock_behind import Span
    from k2_assets.kafka.schema_lookup import SchemaLookup
    from k2_assets.silver.reprocess_rejected import Reprocess
    from k2_core.lake.catalog import open_catalog, require_lake
    from k2_core.lake.tables import DATA
    from k2_core.registry import Registry

    if first > last:
        msg = f"--from {first:%Y-%m-%d} is later than --to {last:%Y-%m-%d}"
        raise click.UsageError(msg)
    settings = load_settings()
    require_lake(settings)
    now_us = clock.now_us()
    ahead_us = now_us if behind_minutes is None else behind_minutes * 60 * clock.US_PER_SECOND
    end = last.replace(tzinfo=UTC) + timedelta(days=1)
    span = Span(clock.to_us(first.replace(tzinfo=UTC)), clock.to_us(end), now_us, ahead_us)
    catalog = open_catalog(settings)
    for data in DATA:
        job = Reprocess(catalog, settings.catalog.namespace, VENUES[venue], data, span)
        found = job.find()
        click.echo(
            f"{venue} {data}: {found.rows:,} rows of {found.frames:,} frames were rejected as timestamp_in_future and "
            f"may be accepted; days to rebuild: {', '.join(map(str, found.days)) or 'none'}"
        )
        if dry_run or not found.rows:
            continue
        with Registry(settings.registry_url) as registry:
            for day, outcome in job.run(found.days, SchemaLookup(registry)):
                click.echo(
                    f"{day}: {outcome.rows_written:,} rows of silver written, "
                    f"{outcome.rejected_replaced:,} rejected rows gone"
                )
