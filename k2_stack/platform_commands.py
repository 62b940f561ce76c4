"""The commands of the platform, as a shell sees them. Each imports what it needs when it is called."""

import sys
import time
from datetime import date

import click

from k2_core.errors import PartError
from k2_stack.part_names import LOGS
from k2_stack.trade_sources import Kind, Source, path_of

_LOOK_S = 2.0


class Speed(click.ParamType[str]):
    """A factor of the recording's own timing, or max."""

    name = "N|max"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is neither a positive number nor ``max``."""
        try:
            good = value == "max" or 0 < float(value) < float("inf")
        except ValueError:
            good = False
        if not good:
            self.fail(f"{value!r} is neither a positive number nor max", param, ctx)
        return value


@click.command()
@click.option(
    "--source",
    "kind",
    type=click.Choice(["live", "simulator", "recording"]),
    default="live",
    show_default=True,
    help="the venue, a random market, or the recordings FILES",
)
@click.option("--speed", type=Speed(), help="play recordings N times as fast as they were, or as fast as possible")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="trades a second of the random market")
@click.option("--detach", is_flag=True, help="return when the platform is ready, and leave it running")
@click.argument("files", nargs=-1)
def up(kind: Kind, speed: str | None, rate: float | None, detach: bool, files: tuple[str, ...]) -> None:
    """Start the platform, and keep it running until Ctrl-C or `k2 down`.

    FILES are recordings, for --source recording: FILE or VENUE=FILE.
    """
    if bool(files) != (kind == "recording"):
        msg = "name the recordings: k2 up --source recording FILE…" if not files else "FILES need --source recording"
        raise click.UsageError(msg)
    if speed is not None and kind != "recording":
        raise click.UsageError("--speed is for --source recording")
    if rate is not None and kind != "simulator":
        raise click.UsageError("--rate is for --source simulator")
    for file in files:
        if not path_of(file).is_file():
            msg = f"there is no recording {file}"
            raise click.UsageError(msg)
    from k2_core.settings import load_settings
    from k2_stack import run

    (run.detached if detach else run.foreground)(load_settings(), Source(kind, files, speed, rate))


@click.command()
def down() -> None:
    """End the platform of this home, and whatever a killed supervisor left behind."""
    from k2_core.settings import load_settings
    from k2_stack import run

    click.echo(run.end(load_settings()))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
@click.option("--watch", is_flag=True, help="look again every 2 s until Ctrl-C")
def status(as_json: bool, watch: bool) -> None:
    """Show the state of each part and of each layer of the lake, and what the lake holds.

    The exit status is 0 when all is ready, 1 when it is not, and 3 when it is ready with warnings.
    """
    from k2_core.settings import load_settings
    from k2_stack import status as facts
    from k2_stack.status_view import Screen

    settings = load_settings()
    with Screen(as_json=as_json, watch=watch) as screen:
        found = facts.gather(settings)
        screen.show(found)
        try:
            while watch:
                time.sleep(_LOOK_S)
                found = facts.gather(settings)
                screen.show(found)
        except KeyboardInterrupt:
            pass  # the way to end it
    sys.exit(facts.exit_code(found))


@click.command()
@click.argument("part", type=click.Choice(LOGS))
@click.option("-f", "--follow", is_flag=True, help="go on with new lines")
@click.option("-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="how many lines")
def logs(part: str, follow: bool, lines: int) -> None:
    """Show the end of PART's log."""
    from k2_core.settings import load_settings
    from k2_stack import logfiles

    log = logfiles.log_of(load_settings(), part)
    if not log.exists():
        msg = f"{part} has written no log yet: {log} does not exist."
        raise PartError(msg)
    for line in logfiles.tail(log, lines, follow=follow):
        click.echo(line, nl=False)


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
@click.argument("asset", required=False)
@click.option("--from", "first", type=Day(), help="first day (UTC)")
@click.option("--to", "last", type=Day(), help="last day, inclusive")
@click.option("--with-downstream", is_flag=True, help="also rebuild everything that is derived from ASSET, in order")
@click.option("--failed-of", metavar="BACKFILL", help="rebuild only what that backfill did not; without ASSET and days")
def backfill(
    asset: str | None, first: date | None, last: date | None, with_downstream: bool, failed_of: str | None
) -> None:
    """Rebuild the days of ASSET: bronze from Kafka, silver from bronze, gold from silver, candles from gold.

    The platform of this home must run. Ctrl-C ends only the waiting: the backfill goes on in Dagster.
    """
    from k2_core.settings import load_settings
    from k2_stack import backfill as days

    if failed_of is not None:
        if asset or first or last or with_downstream:
            msg = "--failed-of names the backfill whose assets and days it takes: give no others"
            raise click.UsageError(msg)
        days.backfill_failed(load_settings(), failed_of)
        return
    if asset is None:
        raise click.MissingParameter(param_type="argument", param_hint="'ASSET'")
    if first is None or last is None:
        missing = "'--from'" if first is None else "'--to'"
        raise click.MissingParameter(param_type="option", param_hint=missing)
    if first > last:
        msg = f"--from {first} is later than --to {last}"
        raise click.UsageError(msg)
    days.backfill(load_settings(), asset, first, last, with_downstream=with_downstream)


@click.command()
@click.option("--keep", is_flag=True, help="leave the platform running afterwards")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=100.0, show_default=True, help="trades a second"
)
def demo(keep: bool, rate: float) -> None:
    """Show the platform at work: a simulated market of all venues, candles, and what happens when things break.

    It takes about two minutes. It has a home of its own beside yours (K2_HOME with -demo), so that no simulated trade
    gets among real ones. When one of your ports is taken, for example by your own platform, it uses free ones.
    """
    from k2_core.settings import load_settings
    from k2_stack import demo as tour

    tour.demo(load_settings(), rate, keep=keep)
