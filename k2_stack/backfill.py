"""Rebuild days of an asset: launch a Dagster backfill as its pages do, and wait for its end."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import date, timedelta
from typing import Final

import click
from rich.live import Live

from k2_core import clock
from k2_core.errors import PartAway, PartError
from k2_core.settings import Settings
from k2_stack import stack_state
from k2_stack.backfill_chart import Run, chart, days_of, failed
from k2_stack.dagster_graphql import DagsterPages, Progress
from k2_stack.terminal import open_console

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
    _follow(settings, pages, backfill_id, dict.fromkeys(chosen, days))


def backfill_failed(settings: Settings, backfill_id: str) -> None:
    """Launch a backfill of what another one did not rebuild, and wait for its end.

    Raises:
        PartError: as of :func:`backfill`; or nothing of that backfill failed, or it still runs.
    """
    pages = DagsterPages(stack_state.running(settings).url("dagster-webserver"))
    again = pages.launch_failed(backfill_id)
    targeted = pages.targeted(again)
    count = _counted(sum(map(len, targeted.values())), "partition")
    click.echo(f"{', '.join(targeted)}: {count} that {backfill_id} did not rebuild; {pages.url}/runs/b/{again}")
    _follow(settings, pages, again, targeted)


def _follow(settings: Settings, pages: DagsterPages, backfill_id: str, targeted: Mapping[str, list[str]]) -> None:
    """Wait for the end of a backfill, and report it.

    Raises:
        PartError: not every partition was rebuilt.
    """
    ended = _wait(settings, pages, backfill_id, targeted)
    if ended.status in {"COMPLETED_SUCCESS", "COMPLETED"} and not ended.failed and ended.done == ended.targeted:
        click.echo(f"{_counted(ended.done, 'partition')} rebuilt")
        return
    for name, days in failed(days_of(targeted, pages.runs(backfill_id, {}).values(), ended=True)).items():
        click.echo(f"not rebuilt: {name}: {days}")
    click.echo(f"to rebuild these days alone: k2 backfill --failed-of {backfill_id}")
    # The first failure is the error of this command; a few more go to standard error, and Dagster shows them all.
    failures = [f"{each.step or 'the run'} of {each.days}: {each.reason}" for each in pages.failures(backfill_id)]
    for failure in failures[1:_SHOWN]:
        click.echo(f"k2: also {failure}", err=True)
    why = failures[0] if failures else ended.error or f"the backfill is {ended.status.lower()}"
    missing = f"{ended.targeted - ended.done} of {_counted(ended.targeted, 'partition')} not rebuilt"
    raise PartError(f"{missing}; why: {why}; see {pages.url}/runs/b/{backfill_id}")


def _wait(settings: Settings, pages: DagsterPages, backfill_id: str, targeted: Mapping[str, list[str]]) -> Progress:
    """Show progress until the backfill has ended: a chart on a terminal, a line for each change in a pipe.

    Raises:
        PartError: the platform of this home has ended meanwhile, or Dagster answers with an error, or for ten minutes
            not at all.
    """
    console = open_console()
    began, printed, runs = clock.monotonic(), "", dict[str, Run]()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        gives_up_at = clock.monotonic() + _AWAY_S
        while True:
            try:
                now = pages.progress(backfill_id)
                runs = pages.runs(backfill_id, runs) if live else {}
            except PartAway:  # the supervisor restarts a webserver that died
                if clock.monotonic() > gives_up_at:
                    raise
                stack_state.running(settings)  # raises when there is nobody left who would restart it
                time.sleep(_POLL_S)
                continue
            over = now.status.startswith("COMPLETED") or now.status in {"FAILED", "CANCELED"}
            text = f"{now.done + now.failed} of {_counted(now.targeted, 'partition')} done"
            text += f", {now.failed} failed" if now.failed else ""
            line = f"[{clock.monotonic() - began:7.1f} s] {text}"
            if live:
                days = days_of(targeted, runs.values(), ended=over)
                live.update(chart(days, console.height - 2).append(f"\n{line}"), refresh=True)
            elif text != printed:
                click.echo(line)
                printed = text
            if over:
                return now
            time.sleep(_POLL_S)
            gives_up_at = clock.monotonic() + _AWAY_S


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
