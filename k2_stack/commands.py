"""The commands that run the platform: up, down, status, logs."""

import sys
import time
from pathlib import Path

import click

from k2_core.errors import PartError
from k2_core.settings import load_settings
from k2_stack.sources import Kind, Source, path_of
from k2_stack.state import STEPS

_LOOK_S = 2.0
DAGSTER = ("dagster-code", "dagster-daemon", "dagster-webserver")
PARTS = ("broker", "registry", "simulator", "feed", *DAGSTER, "drain", "api", "supervisor", *STEPS)


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
    from k2_stack import run  # noqa: PLC0415  # `k2 --help` need not wait for it

    source = _source(kind, speed, rate, files)
    (run.detached if detach else run.foreground)(load_settings(), source)


def _source(kind: Kind, speed: str | None, rate: float | None, files: tuple[str, ...]) -> Source:
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
    return Source(kind, files, speed, rate)


@click.command()
def down() -> None:
    """End the platform of this home, and whatever a supervisor that was killed left behind."""
    from k2_stack import run  # noqa: PLC0415

    click.echo(run.end(load_settings()))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
@click.option("--watch", is_flag=True, help="look again every 2 s, until Ctrl-C")
def status(as_json: bool, watch: bool) -> None:
    """Say how each part and each layer of the lake is, and what it holds.

    Ends with 0 when all is ready, 1 when it is not, and 3 when it is ready and there are warnings.
    """
    from k2_stack import status as facts  # noqa: PLC0415  # `k2 --help` need not wait for it
    from k2_stack.status_view import Screen  # noqa: PLC0415

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
@click.argument("part", type=click.Choice(PARTS))
@click.option("-f", "--follow", is_flag=True, help="go on with what is written from now on")
@click.option("-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="how many lines")
def logs(part: str, follow: bool, lines: int) -> None:
    """Show the end of PART's log."""
    from k2_stack import logfiles  # noqa: PLC0415

    log = load_settings().home / "logs" / f"{part}.log"
    if not Path(log).exists():
        msg = f"{part} has written no log yet: {log} does not exist."
        raise PartError(msg)
    for line in logfiles.tail(log, lines, follow=follow):
        click.echo(line, nl=False)
