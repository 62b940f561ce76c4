"""The command ``k2-query rejected``."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from k2_api.shell.moment import Moment
from k2_core.trades import REASONS
from k2_core.venues import VENUES

if TYPE_CHECKING:
    from k2_api.shell.printing import Form

_FORMS: Final = ("table", "json", "csv")


@click.command()
@click.option("-e", "--exchange", type=click.Choice(list(VENUES)), help="One exchange; by default all.")
@click.option("--start", type=Moment(), help="Ingested at this time or later: 2024-08-08T23:55:00Z.")
@click.option("--end", type=Moment(), help="Ingested before this time.")
@click.option("--reason", "reasons", type=click.Choice(list(REASONS)), multiple=True, help="May be given repeatedly.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1, max=100_000), default=20, show_default=True, help="Most rows."
)
@click.option("-o", "--output", "form", type=click.Choice(_FORMS), default="table", show_default=True)
@click.option("--summary", is_flag=True, help="Count rows by reason instead.")
def rejected(
    *,
    exchange: str | None,
    start: datetime | None,
    end: datetime | None,
    reasons: tuple[str, ...],
    limit: int,
    form: "Form",
    summary: bool,
) -> None:
    """Show what could not become a row of silver: the newest first, each with its reason and its bytes.

    A payload that is UTF-8 is shown as text, any other in hexadecimal; payload_form is its form.
    """
    if start is not None and end is not None and start >= end:
        msg = f"--start {start.isoformat()} is not before --end {end.isoformat()}"
        raise click.UsageError(msg)
    from k2_api.shell.query_rejected import show
    from k2_core.settings import load_settings

    show(load_settings(), exchange, start, end, reasons, limit=limit, form=form, summary=summary)
