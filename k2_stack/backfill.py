"""The command that makes days of an asset anew: a Dagster backfill, launched as its pages do, and waited for."""

import time
from datetime import date, timedelta
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from k2_core import clock
from k2_core.errors import PartError
from k2_core.home_format import require_known_home
from k2_core.settings import load_settings
from k2_stack.dagster_graphql import Asset, DagsterPages, Failure, Progress

_POLL_S: Final = 1.0
_AWAY_S: Final = 120.0
_SHOWN: Final = 5


class Day(click.ParamType[date]):
    """A UTC day."""

    name = "YYYY-MM-DD"

    def convert(self, value: str | date, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Refuse what is no day."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day such as 2024-08-09", param, ctx)


@click.command()
@click.argument("asset")
@click.option("--from", "first", type=Day(), required=True, help="first day (UTC)")
@click.option("--to", "last", type=Day(), required=True, help="last day, inclusive")
@click.option("--with-downstream", is_flag=True, help="and everything that is derived from ASSET, in order")
def backfill(asset: str, first: date, last: date, with_downstream: bool) -> None:
    """Make the days of ASSET anew: bronze from Kafka, silver from bronze, gold from silver, candles from gold.

    The platform must run. Ctrl-C ends only the waiting: the backfill goes on in Dagster.
    """
    if first > last:
        msg = f"--from {first} is later than --to {last}"
        raise click.UsageError(msg)
    settings = load_settings()
    require_known_home(settings)
    pages = DagsterPages(f"http://127.0.0.1:{settings.ports.dagster}")
    assets = pages.assets()
    if asset not in assets:
        msg = f"there is no asset {asset} with days; there are: {', '.join(sorted(assets))}"
        raise click.UsageError(msg)
    days = _days(pages, asset, first, last)
    chosen = _with_followers(asset, assets) if with_downstream else [asset]
    backfill_id = pages.launch(chosen, days)
    click.echo(f"{', '.join(chosen)}: {_counted(len(days), 'day')}; {pages.url}/runs/b/{backfill_id}")
    _report(pages, backfill_id, _wait(pages, backfill_id))


def _days(pages: DagsterPages, asset: str, first: date, last: date) -> list[str]:
    known = pages.days(asset)
    wanted = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    if unknown := sorted(set(wanted) - set(known)):
        msg = f"{asset} has no day {unknown[0]}: there are {known[0]} to {known[-1]}"
        raise click.UsageError(msg)
    return wanted


def _with_followers(asset: str, assets: dict[str, Asset]) -> list[str]:
    chosen = [asset]
    for name in chosen:
        chosen += [each for each in assets[name].followers if each in assets and each not in chosen]
    return chosen


def _wait(pages: DagsterPages, backfill_id: str) -> Progress:
    """Show progress until the backfill has ended: a bar on a terminal, a line for each change in a pipe."""
    console = Console(highlight=False)
    began, said = clock.monotonic(), ""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("waiting", total=None)
        while True:
            now = _patiently(pages, backfill_id)
            text = f"{now.done + now.failed} of {_counted(now.targeted, 'partition')} done"
            text += f", {now.failed} failed" if now.failed else ""
            bar.update(task, description=text, completed=now.done + now.failed, total=now.targeted or None)
            if not console.is_terminal and text != said:
                click.echo(f"[{clock.monotonic() - began:7.1f} s] {text}")
                said = text
            if now.ended:
                return now
            time.sleep(_POLL_S)


def _patiently(pages: DagsterPages, backfill_id: str) -> Progress:
    """Ask until Dagster answers: the supervisor starts a webserver that died again."""
    gives_up_at = clock.monotonic() + _AWAY_S
    while True:
        try:
            return pages.progress(backfill_id)
        except PartError:
            if clock.monotonic() > gives_up_at:
                raise
            time.sleep(_POLL_S)


def _report(pages: DagsterPages, backfill_id: str, ended: Progress) -> None:
    """Say how it ended.

    Raises:
        PartError: not every partition was made.
    """
    if ended.status in {"COMPLETED_SUCCESS", "COMPLETED"} and not ended.failed and ended.done == ended.targeted:
        click.echo(f"{_counted(ended.done, 'partition')} made")
        return
    failures = pages.failures(backfill_id)
    for failure in failures[1:_SHOWN]:
        click.echo(f"k2: also {_told(failure)}", err=True)
    why = _told(failures[0]) if failures else ended.error or f"the backfill is {ended.status.lower()}"
    not_made = f"{ended.targeted - ended.done} of {_counted(ended.targeted, 'partition')} not made"
    msg = f"{not_made}; why: {why}; see {pages.url}/runs/b/{backfill_id}"
    raise PartError(msg)


def _told(failure: Failure) -> str:
    return f"{failure.step or 'the run'} of {failure.day}: {failure.reason}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
