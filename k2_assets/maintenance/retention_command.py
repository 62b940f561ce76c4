"""``k2 retention``: what the retention of the settings removes, shown or removed, from a shell."""

import click

from k2_core.errors import K2Error


@click.command()
@click.option("--remove", is_flag=True, help="remove it; without this option it is only shown")
def retention(*, remove: bool) -> None:
    """Show which days of tables the retention of the settings removes, and why others stay that are old enough.

    The platform removes them by itself every night where K2_RETENTION__PROFILE is rolling.

    \b
    Example:
      K2_RETENTION__PROFILE=rolling k2 retention
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is
    from rich.console import Console
    from rich.table import Table

    from k2_assets.lake.lake_resource import Lake
    from k2_assets.maintenance.retention_job import COLUMNS, NOTHING, report, retentions
    from k2_core.lake.catalog import require_lake
    from k2_core.settings import load_settings

    settings = load_settings()
    require_lake(settings)
    found, failed = [], []
    for each in retentions(Lake(settings)):
        try:
            found.append(each.run() if remove else each.dry_run())
        except (K2Error, OSError) as error:
            failed.append(f"{each.table}: {error}")
    rows = report(found)
    if settings.retention.profile == "archive":
        click.echo(NOTHING)
    elif rows.is_empty():
        click.echo("No day of any table is old enough.")
    else:
        shown = Table(*COLUMNS)
        for row in rows.iter_rows():
            shown.add_row(*map(str, row))
        Console(highlight=False).print(shown)
    if failed:
        msg = f"not done: {'; '.join(failed)}"
        raise K2Error(msg)
