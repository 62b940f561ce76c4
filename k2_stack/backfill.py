"""Rebuild days of an asset: launch a Dagster backfill as its pages do, and wait for its end."""

import time
from datetime import date, timedelta
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from k2_core import clock
from k2_core.errors import PartAway, PartError
from k2_core.settings import Settings
from k2_stack import stack_state
from k2_stack.dagster_graphql import DagsterPages, Progress

_POLL_S: Final = 1.0
_AWAY_S: Final = 600.0
_SHOWN: Final = 5


def backfill(settings: Settings, asset: str, first: date, last: date, *, with_downstream: bool) -> None:
    """Launch a backfill of the days from ``first`` to ``last`` on this home's platform, and wait for its end.

    Raises:
        UsageError: there is no such asset, or no such day of it.
        PartError: no platform runs from this home, Dagster does not answer, or not every partition was rebuilt.
    """
    pages = DagsterPages(stack_state.running(settings).url("dagster-webserver"))
    assets = pages.assets()
    if asset not in assets:
        msg = f"there is no asset {asset} with days; there are: {', '.join(sorted(assets))}"
        raise click.UsageError(msg)
    known = pages.days(asset)
    days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    if unknown := sorted(set(days) - set(known)):
        msg = f"{asset} has no day {unknown[0]}: there are {known[0]} to {known[-1]}"
        raise click.UsageError(msg)
    chosen = [asset]
    for name in chosen if with_downstream else ():  # the list grows while it is walked through
        chosen += [each for each in assets[name].followers if each in assets and each not in chosen]
    backfill_id = pages.launch(chosen, days)
    click.echo(f"{', '.join(chosen)}: {_counted(len(days), 'day')}; {pages.url}/runs/b/{backfill_id}")
    ended = _wait(settings, pages, backfill_id)
    if ended.status in {"COMPLETED_SUCCESS", "COMPLETED"} and not ended.failed and ended.done == ended.targeted:
        click.echo(f"{_counted(ended.done, 'partition')} rebuilt")
        return
    # The first failure is the error of this command; a few more go to standard error, and Dagster shows them all.
    failures = [f"{each.step or 'the run'} of {each.days}: {each.reason}" for each in pages.failures(backfill_id)]
    for failure in failures[1:_SHOWN]:
        click.echo(f"k2: also {failure}", err=True)
    why = failures[0] if failures else ended.error or f"the backfill is {ended.status.lower()}"
    missing = f"{ended.targeted - ended.done} of {_counted(ended.targeted, 'partition')} not rebuilt"
    raise PartError(f"{missing}; why: {why}; see {pages.url}/runs/b/{backfill_id}")


def _wait(settings: Settings, pages: DagsterPages, backfill_id: str) -> Progress:
    """Show progress until the backfill has ended: a bar on a terminal, a line for each change in a pipe.

    Raises:
        PartError: the platform of this home has ended meanwhile, or Dagster answers with an error, or for ten minutes
            not at all.
    """
    console = Console(highlight=False)
    began, printed = clock.monotonic(), ""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("waiting", total=None)
        gives_up_at = clock.monotonic() + _AWAY_S
        while True:
            try:
                now = pages.progress(backfill_id)
            except PartAway:  # the supervisor restarts a webserver that died
                if clock.monotonic() > gives_up_at:
                    raise
                stack_state.running(settings)  # raises when there is nobody left who would restart it
                time.sleep(_POLL_S)
                continue
            text = f"{now.done + now.failed} of {_counted(now.targeted, 'partition')} done"
            text += f", {now.failed} failed" if now.failed else ""
            bar.update(task, description=text, completed=now.done + now.failed, total=now.targeted or None)
            if not console.is_terminal and text != printed:
                click.echo(f"[{clock.monotonic() - began:7.1f} s] {text}")
                printed = text
            if now.status.startswith("COMPLETED") or now.status in {"FAILED", "CANCELED"}:
                return now
            time.sleep(_POLL_S)
            gives_up_at = clock.monotonic() + _AWAY_S


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
