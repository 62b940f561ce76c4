"""The commands ``k2 feed …``."""

import math
import sys
from pathlib import Path
from typing import Any

import click

from k2_core.errors import K2Error, PartError


class _Number(click.FloatRange):
    """A finite number within bounds; a comparison alone would accept nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.group()
def feed() -> None:
    """Feed venues into Kafka, record them, or simulate one.

    \b
    Examples:
      k2 feed run
      k2 feed record binance binance_today.jsonl.gz
      k2 feed simulate --rate 1000
      k2 feed simulate --recording binance_today.jsonl.gz --speed max
      k2 feed fault drop kraken --count 5
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is


@feed.command()
@click.argument("venues", nargs=-1, metavar="[VENUE]...")
@click.option("--take-over", is_flag=True, help="Replace the process that feeds now, without a gap.")
@click.option("--health-port", type=click.IntRange(1, 65535), help="Port of /health and /metrics on 127.0.0.1.")
def run(venues: tuple[str, ...], take_over: bool, health_port: int | None) -> None:
    """Feed VENUEs (such as binance) into Kafka until stopped; all of K2_FEEDS__VENUES when none is named.

    URLs and symbols come from the settings. It first creates its topics and registers its schemas, and waits for Kafka
    and the registry if they do not run yet. Health: http://127.0.0.1:9101/health

    One process feeds a venue. With --take-over a second one starts beside it, and ends it once the venue has
    acknowledged all subscriptions of the second one.

    \b
    Examples:
      k2 feed run
      k2 feed run binance kraken
      k2 feed run coinbase --health-port 9111
      k2 feed run binance --take-over
      K2_FEEDS__BINANCE__SYMBOLS='["SOLUSDT"]' k2 feed run binance
      K2_FEEDS__BINANCE__URL=ws://127.0.0.1:9443 k2 feed run binance
    """  # noqa: D301
    from k2_core import logs
    from k2_core.settings import load_settings
    from k2_feeds import feed_runner, handover

    logs.configure("feed")
    try:
        settings = load_settings()
        handover.make_folder(settings)
        port = health_port or settings.ports.feed_health
        feed_runner.run(feed_runner.feed(settings, venues, health_port=port, take_over=take_over))
    except K2Error as error:
        _fail(error)


@feed.command()
@click.argument("venue")
@click.option("--within", "within_s", type=_Number(min=0), default=120.0, show_default=True, help="Seconds.")
def handover(venue: str, within_s: float) -> None:
    """Replace the process that feeds VENUE by a new one, without a gap: for a new version of K2.

    Under k2 up the supervisor starts the successor, which takes over all venues of that process. The present process
    ends once the venue has acknowledged all subscriptions of its successor. Without k2 up this starts nothing, and
    shows the command that does.

    \b
    Examples:
      k2 feed handover binance
    """  # noqa: D301
    from k2_core.settings import load_settings
    from k2_feeds import feed_runner
    from k2_feeds.handover import await_successor, request_handover

    try:
        settings = load_settings()
        feed_runner.sources_of(settings, (venue,))
        before = request_handover(settings, venue)
        click.echo(f"process {before.pid} feeds {', '.join(before.venues)}: its successor was asked for")
        after = await_successor(settings, venue, before, within_s)
    except K2Error as error:
        _fail(error)
        return
    click.echo(f"process {after.pid} feeds {', '.join(after.venues)} now")


@feed.command()
@click.argument("venue")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--for", "seconds", type=_Number(min=0, min_open=True), help="Stop by itself after SECONDS.")
def record(venue: str, file: Path, seconds: float | None) -> None:
    """Record every frame of VENUE into FILE, one a line: receive time in ns, the frame.

    The source is the URL of the settings. A FILE that ends in .gz is compressed. Until it is complete it is called
    FILE.part; Ctrl-C completes it. If its name begins with the venue and '_', it can be played without naming the
    venue.

    \b
    Examples:
      k2 feed record binance binance_today.jsonl.gz
      k2 feed record binance binance_hour.jsonl.gz --for 3600
      K2_FEEDS__BINANCE__URL=ws://127.0.0.1:9443 k2 feed record binance binance_simulated.jsonl
    """  # noqa: D301
    from k2_core import logs
    from k2_core.settings import load_settings
    from k2_feeds import feed_runner
    from k2_feeds.recorder import Recorder

    logs.configure("record")
    try:
        settings = load_settings()
        (source,) = feed_runner.sources_of(settings, (venue,))
        recorder = Recorder(file)
        feed_runner.run(feed_runner.record(settings, venue, recorder, seconds))
        if not recorder.frames:
            msg = f"not one frame came from {source.url}, so that there is no {file}: what was logged above says why."
            raise PartError(msg)
    except K2Error as error:
        _fail(error)
    click.echo(f"{file}: {recorder.frames:,} frames, {recorder.bytes:,} bytes.")
    if recorder.unrecordable:
        click.echo(f"{recorder.unrecordable} frames held line feeds and could not be recorded.", err=True)


@feed.command()
@click.option("--recording", "recordings", multiple=True, metavar="[VENUE=]FILE", help="Play FILE; may be repeated.")
@click.option("--speed", default="1", metavar="N|max", show_default=True, help="How fast recordings are played.")
@click.option("--rate", type=_Number(min=0, max=1_000_000, min_open=True), help="Trades a second, in all.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the random market.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
@click.option("--truth", type=click.Path(file_okay=False, path_type=Path), help="Write what really happened here.")
@click.option("--faults", metavar="FILE|random", help="Have faults, by a script or by chance.")
def simulate(
    *,
    recordings: tuple[str, ...],
    speed: str,
    rate: float | None,
    seed: int | None,
    port: int | None,
    truth: Path | None,
    faults: str | None,
) -> None:
    """Simulate Binance, Kraken and Coinbase on one port, WebSockets and REST: a random market, or recordings.

    Recordings are played once; several are merged by time. Playing begins when each venue of the files has
    subscribers: at once if all symbols are subscribed to, else after a second without further subscriptions, and at
    the latest 60 s after the first one. With K2_SIMULATOR__WAIT_FOR_ALL=true, which k2 up sets, it waits for all
    symbols for these 60 s. A frame without a subscriber is lost, as at a venue. With --speed max frames are sent as
    fast as they are read. GET /status reports the position, and how many frames had no subscriber. The settings give
    the random market's symbols, and whatever is not given here.

    The folder of --truth gets trades.jsonl and quotes.jsonl (all that happened), dropped.jsonl (what a fault kept from
    all subscribers) and faults.jsonl. A script of --faults has one fault a line, its time counted from the first
    subscription: {"at_s": 20, "fault": "drop", "venue": "kraken", "count": 5}.

    \b
    Examples:
      k2 feed simulate --rate 1000 --seed 7
      k2 feed simulate --truth /tmp/truth --faults random
      k2 feed simulate --recording binance_spot_btcusdt.jsonl.gz --speed max
      k2 feed simulate --recording binance=capture.gz --speed 10 --port 9443
    """  # noqa: D301
    from k2_core import logs
    from k2_core.settings import load_settings
    from k2_feeds import feed_runner
    from k2_feeds.simulator import simulator_runner as simulator

    factor = _speed(speed)
    if recordings and (rate is not None or seed is not None):
        message = "--rate and --seed belong to the random market, --recording plays a file: give one or the other"
        raise click.UsageError(message)
    logs.configure("simulator")
    try:
        settings = load_settings()
        source = (
            simulator.recording_source(settings, list(recordings), factor)
            if recordings
            else simulator.market_source(settings, seed, rate)
        )
        chance = settings.simulator.seed if seed is None else seed
        planned = simulator.planned_faults(faults, chance, source)
        port = port or settings.ports.simulator
        feed_runner.run(simulator.simulate(source, port, settings.simulator.cut_after_s, truth, planned))
    except K2Error as error:
        _fail(error)


@feed.command()
@click.argument("name")
@click.argument("venue")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="To how many messages.")
@click.option("--seconds", type=_Number(), help="How long, how late or how wrong; see below.")
@click.option("--for", "for_s", type=_Number(0), help="How long skew and stale last.")
@click.option("--symbol", help="Only to this symbol, in the venue's spelling.")
@click.option("--channel", type=click.Choice(["trades", "quotes"]), help="Only to messages of these.")
@click.option("--wait", is_flag=True, help="Return when it is over.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the simulator.")
def fault(
    *,
    name: str,
    venue: str,
    count: int,
    seconds: float | None,
    for_s: float | None,
    symbol: str | None,
    channel: str | None,
    wait: bool,
    port: int | None,
) -> None:
    """Have the running simulator's VENUE suffer the fault NAME.

    \b
    drop, duplicate, reorder, malformed   COUNT messages are lost, sent twice, swapped, or followed by a broken one
    disconnect    connections end in the middle of a frame
    cut           connections are closed, as at the end of their day
    shutdown      Binance says serverShutdown; SECONDS (5) later connections are closed
    slow          after SECONDS (2) without being sent anything, clients are cut off as too slow
    silence       nothing is sent for SECONDS (10), though subscriptions are accepted and pings answered
    skew          the venue's clock is wrong by SECONDS (5), for a while (--for, 10 s)
    stale         what is sent happened SECONDS (60) ago, for a while (--for, 10 s)
    http_429      REST and handshakes are answered by 429 for SECONDS (10)

    \b
    Examples:
      k2 feed fault drop binance --count 5 --symbol BTCUSDT --channel trades
      k2 feed fault silence kraken --seconds 30
      k2 feed fault disconnect coinbase --wait
    """  # noqa: D301
    from k2_core.settings import load_settings
    from k2_feeds.simulator import control

    given = {"count": count, "seconds": seconds, "for_s": for_s, "symbol": symbol, "channel": channel}
    details = {key: value for key, value in given.items() if value is not None}
    try:
        port = port or load_settings().ports.simulator
        answer = control.ask(port, {"fault": name, "venue": venue, **details, "wait": wait})
    except K2Error as error:
        _fail(error)
        return
    click.echo(f"{name} at {venue}: over; it happened {answer['happened']} times." if wait else f"{name} at {venue}.")


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
