"""The commands ``k2 feed …``."""

import sys
from pathlib import Path

import click

from k2_core import logs
from k2_core.errors import K2Error
from k2_core.settings import load_settings


@click.group()
def feed() -> None:
    """Feed venues into Kafka, record them, or simulate one.

    \b
    Examples:
      k2 feed run binance
      k2 feed record binance binance_today.jsonl.gz
      k2 feed simulate --rate 1000
      k2 feed simulate --recording binance_today.jsonl.gz --speed max
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is


@feed.command()
@click.argument("venue")
def run(venue: str) -> None:
    """Feed VENUE (such as binance) into Kafka until stopped.

    URL and symbols come from the settings. It makes its topics and registers its schemas first, and waits for Kafka
    and the registry if they are not there yet. Health: http://127.0.0.1:9101/health

    \b
    Examples:
      k2 feed run binance
      K2_FEEDS__BINANCE__SYMBOLS='["SOLUSDT"]' k2 feed run binance
      K2_FEEDS__BINANCE__URL=ws://127.0.0.1:9443 k2 feed run binance
    """  # noqa: D301
    from k2_feeds import runner  # noqa: PLC0415  # only this command needs it

    logs.configure("feed")
    try:
        runner.run(runner.feed(load_settings(), venue))
    except K2Error as error:
        _fail(error)


@feed.command()
@click.argument("venue")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--for", "seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after SECONDS.")
def record(venue: str, file: Path, seconds: float | None) -> None:
    """Record every frame of VENUE into FILE, one a line: receive time in ns, the frame.

    The source is the URL of the settings. A FILE that ends in .gz is compressed. Until it is complete it is called
    FILE.part; Ctrl-C completes it. Begin its name with the venue and '_', so that it can be played without saying
    whose it is.

    \b
    Examples:
      k2 feed record binance binance_today.jsonl.gz
      k2 feed record binance binance_hour.jsonl.gz --for 3600
      K2_FEEDS__BINANCE__URL=ws://127.0.0.1:9443 k2 feed record binance binance_simulated.jsonl
    """  # noqa: D301
    from k2_feeds import runner  # noqa: PLC0415
    from k2_feeds.recorder import Recorder  # noqa: PLC0415

    logs.configure("record")
    try:
        settings = load_settings()
        runner.source_of(settings, runner.venue_named(venue))
        recorder = Recorder(file)
        runner.run(runner.record(settings, venue, recorder, seconds))
    except K2Error as error:
        _fail(error)
    click.echo(f"{file}: {recorder.frames:,} frames, {recorder.bytes:,} bytes.")
    if recorder.unrecordable:
        click.echo(f"{recorder.unrecordable} frames held line feeds and could not be recorded.", err=True)


@feed.command()
@click.option("--recording", "recordings", multiple=True, metavar="[VENUE=]FILE", help="Play FILE; may be repeated.")
@click.option("--speed", default="1", metavar="N|max", show_default=True, help="How fast recordings are played.")
@click.option("--rate", type=click.FloatRange(min=0, max=1_000_000, min_open=True), help="Trades a second, in all.")
@click.option("--seed", type=int, help="Seed of the random market.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
def simulate(recordings: tuple[str, ...], speed: str, rate: float | None, seed: int | None, port: int | None) -> None:
    """Be a venue that speaks Binance's WebSocket protocol: a random market, or recordings.

    Recordings are played once, from the first subscription on; several are merged by time. What is due while nobody
    is subscribed is lost, as at a venue; with --speed max frames go as fast as they are taken. GET /status tells the
    position. The random market's symbols, and what is not given here, come from the settings.

    \b
    Examples:
      k2 feed simulate --rate 1000 --seed 7
      k2 feed simulate --recording binance_spot_btcusdt.jsonl.gz --speed max
      k2 feed simulate --recording binance=capture.gz --speed 10 --port 9443
    """  # noqa: D301
    from k2_feeds import runner  # noqa: PLC0415
    from k2_feeds.simulator.runner import market_source, recording_source, simulate  # noqa: PLC0415

    factor = _speed(speed)
    if recordings and (rate is not None or seed is not None):
        message = "--rate and --seed belong to the random market, --recording plays a file: give one or the other"
        raise click.UsageError(message)
    logs.configure("simulator")
    try:
        settings = load_settings()
        source = recording_source(list(recordings), factor) if recordings else market_source(settings, seed, rate)
        runner.run(simulate(source, port or settings.ports.simulator, settings.simulator.cut_after_s))
    except K2Error as error:
        _fail(error)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        message = f"{text!r} is neither a positive number nor max"
        raise click.BadParameter(message, param_hint="--speed")
    return factor


def _fail(error: K2Error) -> None:
    click.echo(f"k2: {error}", err=True)
    sys.exit(1)
