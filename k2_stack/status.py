"""Put together what ``k2 status`` says: the supervisor's state, and what the lake, Kafka, Dagster and processes say.

:func:`gather` is cheap enough to be called every second from a program. Nothing here loads pyiceberg or Dagster.
"""

import http.client
import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NotRequired, TypedDict

from confluent_kafka import KafkaException

from k2_assets.kept_runs.heartbeat import READING, STOPPED, WAITING, Beat, read_beat
from k2_assets.kept_runs.kept_run import KeptRun, kept_runs
from k2_core import clock, disk_space
from k2_core.errors import NewerHome, TopicError
from k2_core.home_format import require_known_home
from k2_core.offsets import Offsets
from k2_core.settings import DEVELOPMENT_API_KEY, Settings
from k2_stack import dagster_records, kafka_lag, lake_status, layer_status, processes, stack_state, warning_sentences
from k2_stack.dagster_records import FailedRun, FailingCheck
from k2_stack.iceberg_metadata import LakeTable, read_tables
from k2_stack.kafka_lag import Waiting
from k2_stack.layer_status import Below, Layer
from k2_stack.stack_state import PartState, StackState

READY, NOT_READY, READY_WITH_WARNINGS = 0, 1, 3
FAILED_WITHIN_S: Final = 3600.0
_KEPT: Final = ("drain", "refine")
_FEED_WAIT_S: Final = 1.0
_CATALOG_WAIT_S: Final = 1.0


class PartStatus(TypedDict):
    """One part. Memory in MB is the PSS of all processes of its session; kept runs are counted on their own."""

    name: str
    state: str
    pid: int | None
    port: int | None
    url: str | None
    rss_mb: float
    restarts: int
    message: str


class Status(TypedDict):
    """The status of a home, as ``k2 status --json`` prints it.

    ``warnings`` are sentences. ``message`` is there when something is wrong that is not one part's alone: a full disk,
    a log that Kafka has cut, a lake that cannot be read.
    """

    ready: bool
    source: str | None
    api_key: str | None
    home: str
    parts: list[PartStatus]
    lag: dict[str, int]
    tables: dict[str, int]
    newest_candle: dict[str, Any] | None
    layers: dict[str, Layer]
    warnings: list[str]
    message: NotRequired[str]


def gather(settings: Settings) -> Status:
    """Return the status of a home. Starts no process, and writes nothing.

    Raises:
        NewerHome: this K2 does not know the home's format.
    """
    seen = _Lake(settings)
    now = stack_state.read(settings)
    running = stack_state.supervisor_of(settings) is not None
    parts = _parts(settings, now, running=running) if now else []
    ready = bool(now and running and now.ready) and not any(
        each["state"] == stack_state.RESTARTING for each in _own(parts)
    )
    serving = {part["name"]: part["url"] for part in parts if part["state"] == stack_state.READY}
    seen.look(serving.get("broker"))
    records = _Records(settings)
    wrong = [*(disk.sentence() for disk in disk_space.low_disks(settings)), *seen.wrong, *records.wrong]
    found_layers = _layers(settings, seen, records)
    found: Status = {
        "ready": ready,
        "source": now.source if now else None,
        "api_key": _shown_api_key(settings),
        "home": str(settings.home),
        "parts": parts,
        "lag": {topic: each.messages for topic, each in seen.waiting.items()},
        "tables": {name: table.rows for name, table in seen.tables.items()},
        "newest_candle": seen.newest_candle,
        "layers": found_layers,
        "warnings": [
            *(_of_parts(now, parts) if now and running else []),
            *(_of_feed(now) if now and "feed" in serving else []),
            *warning_sentences.of_layers(found_layers, settings.supervisor.behind_after_s),
            *warning_sentences.of_runs(records.failed, serving.get("dagster-webserver")),
            *warning_sentences.of_checks(records.failing, clock.now_s()),
            *warning_sentences.of_gaps(seen.gaps),
            *dict.fromkeys(wrong),
        ],
    }
    if wrong:
        found["message"] = "; ".join(dict.fromkeys(wrong))
    return found


def exit_code(found: Status) -> int:
    """Return what ``k2 status`` ends with: 0 ready, 1 not ready, 3 ready with warnings."""
    if not found["ready"]:
        return NOT_READY
    return READY_WITH_WARNINGS if found["warnings"] else READY


def _shown_api_key(settings: Settings) -> str | None:
    """Return the key when it is the known one of development; a key of your own is never shown."""
    key = settings.api.key.get_secret_value()
    return key if key == DEVELOPMENT_API_KEY else None


def _own(parts: list[PartStatus]) -> list[PartStatus]:
    """Leave out the kept runs: they are replaced every quarter of an hour."""
    return [part for part in parts if part["name"] not in _KEPT]


def _of_parts(now: StackState, parts: list[PartStatus]) -> list[str]:
    """Warn of parts that serve and say that something is wrong, and of kept runs."""
    troubled = [part for part in now.parts if part.state == stack_state.READY and part.trouble]
    kept = [part for part in parts if part["name"] in _KEPT and part["state"] == stack_state.FAILING]
    return [f"{part.name}: {part.message}" for part in troubled] + [
        f"{part['name']}: {part['message']}" for part in kept
    ]


def _parts(settings: Settings, now: StackState, *, running: bool) -> list[PartStatus]:
    kept = [part for each in kept_runs(settings) if (part := _kept(each, settings))] if running else []
    apart = {part["pid"] for part in kept}
    left = processes.sessions(part.identity for part in now.parts if part.identity)
    parts = [
        _part(part, left.get(part.identity, []) if part.identity else [], running=running, apart=apart)
        for part in now.parts
        if not part.step
    ]
    return [*parts, *kept]


def _part(part: PartState, left: list[processes.Process], *, running: bool, apart: set[int | None]) -> PartStatus:
    said, message = part.state, part.message
    if not running:
        said, message = stack_state.STOPPED, ""
        if left:
            said, message = "orphaned", "its supervisor is gone: k2 up takes over, k2 down ends it"
    elif (
        part.own and not left and said in {stack_state.READY, stack_state.FAILING}
    ):  # newer than what the supervisor could write
        said, message = stack_state.RESTARTING, "it has ended, and is started again"
    return {
        "name": part.name,
        "state": said,
        "pid": part.pid if left else None,
        "port": part.port,
        "url": part.url,
        "rss_mb": processes.memory_mb(each for each in left if each.pid not in apart),
        "restarts": part.restarts,
        "message": message,
    }


def _kept(kept: KeptRun, settings: Settings) -> PartStatus | None:
    """Read a kept run's own heartbeat; None before the first."""
    try:
        beat = read_beat(kept.store, kept.name)
    except sqlite3.Error:
        return None
    if beat is None:
        return None
    silent_s = clock.now_s() - beat.beat_at
    if beat.phase == STOPPED or not beat.process.is_running():
        return _between_runs(kept, beat, silent_s, settings)
    troubled = bool(beat.detail) and beat.phase in {READING, WAITING}  # it says why it waits, or what it cannot do
    said = f"{beat.phase}{': ' if beat.detail else ''}{beat.detail}"
    if silent_s > kept.dead_after_s:
        troubled = True
        said = f"no sign of life for {silent_s:.0f} s, though its process is there; the last was: {said}"
    return _kept_part(kept, stack_state.FAILING if troubled else stack_state.READY, said, beat.pid)


def _between_runs(kept: KeptRun, beat: Beat, silent_s: float, settings: Settings) -> PartStatus:
    """Return a kept run between two; an error that ended the last one will most likely end the next one too."""
    failed = beat.phase == STOPPED and bool(beat.detail)
    if failed:
        why = f"its run was ended by an error that the {kept.label} does not know, {beat.detail}"
    elif beat.phase == STOPPED:
        why = "its run has ended"
    else:
        why = f"its process {beat.pid} ended while {beat.phase} and said nothing: it was killed, or crashed"
    late = silent_s > settings.supervisor.behind_after_s
    then = "the sensor starts the next one"
    if late:
        then = f"no other has begun for {silent_s:.0f} s: see `k2 logs {kept.label}` and `k2 logs dagster-daemon`"
    return _kept_part(kept, stack_state.FAILING if failed or late else stack_state.RESTARTING, f"{why}; {then}", None)


def _kept_part(kept: KeptRun, said: str, message: str, pid: int | None) -> PartStatus:
    return {
        "name": kept.label,
        "state": said,
        "pid": pid,
        "port": None,
        "url": None,
        "rss_mb": processes.process_memory_mb(pid) if pid else 0.0,
        "restarts": 0,
        "message": message,
    }


class _Lake:
    """What the lake and Kafka say; what cannot be had is told in ``wrong``."""

    def __init__(self, settings: Settings) -> None:
        self.tables: dict[str, LakeTable] = {}
        self.newest_candle: dict[str, Any] | None = None
        self.gaps: dict[tuple[str, str], list[lake_status.Ids]] = {}
        self.below: dict[str, Below] = {}
        self.waiting: dict[str, Waiting] = {}
        self.wrong: list[str] = []
        self._settings = settings
        self._try(self._read_tables)

    def look(self, broker: str | None) -> None:
        """Read rows, and ask Kafka when there is one."""
        with ThreadPoolExecutor(max_workers=1) as beside:  # Kafka answers while the rows are read
            asked = beside.submit(kafka_lag.waiting, broker, self._committed()) if broker else None
            self._try(self._read_rows)
            if asked is not None:
                self._try(lambda: self._take(asked.result()))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except NewerHome:
            raise
        except Exception as error:  # noqa: BLE001  # a lake of which anything is wrong must not hide how the parts are
            self.wrong.append(_why(error, self._settings))

    def _read_tables(self) -> None:
        require_known_home(self._settings, wait_s=_CATALOG_WAIT_S)
        self.tables = read_tables(self._settings)
        self.below = layer_status.below(self.tables) if self.tables else {}

    def _read_rows(self) -> None:
        self.newest_candle = lake_status.newest_candle(self.tables)
        self.gaps = lake_status.open_gaps(self.tables, clock.now())

    def _committed(self) -> dict[str, Offsets]:
        return {topic: self.tables[name].offsets for topic, name in layer_status.topics(self.tables).items()}

    def _take(self, waiting: dict[str, Waiting]) -> None:
        self.waiting = waiting
        self.wrong += [sentence for each in waiting.values() for sentence in each.wrong]
        times = [each.oldest_at_s for each in waiting.values() if each.oldest_at_s is not None]
        self.below["bronze"] = Below(sum(each.messages for each in waiting.values()), min(times, default=None))


class _Records:
    """What Dagster has recorded; a record that cannot be read is told in ``wrong``."""

    def __init__(self, settings: Settings) -> None:
        self.failed: list[FailedRun] = []
        self.failing: list[FailingCheck] = []
        self.wrong: list[str] = []
        home = settings.home / "dagster"
        try:
            self.failed = dagster_records.failed_runs(home, clock.now_s() - FAILED_WITHIN_S)
            self.failing = dagster_records.failing_checks(home)
        except sqlite3.Error as error:
            self.wrong.append(f"failed runs and checks are not known, since Dagster's records cannot be read ({error})")


def _layers(settings: Settings, seen: _Lake, records: _Records) -> dict[str, Layer]:
    now_s, newest = clock.now_s(), layer_status.newest_at_s(seen.tables)
    found = {name: _layer(newest.get(name), seen.below.get(name), now_s, settings) for name in layer_status.LAYERS}
    for run in records.failed:
        for name in layer_status.layers_of_run(run.job, run.assets):
            found[name]["failed_runs"] += 1
    for check in records.failing:
        if layer := layer_status.layer_of(check.asset):
            found[layer]["failing_checks"].append(f"{check.asset}:{check.check}")
    for name in layer_status.LAYERS:
        found[name]["failing_checks"] = sorted(set(found[name]["failing_checks"]))
        if name != "gold_quotes":  # quotes carry no ids that could be missed
            found[name]["open_gaps"] = sum(map(len, seen.gaps.values()))
    return found


def _layer(newest_at_s: float | None, below: Below | None, now_s: float, settings: Settings) -> Layer:
    waits = None if below is None or below.oldest_at_s is None else round(max(now_s - below.oldest_at_s, 0.0), 3)
    return {
        "age_s": None if newest_at_s is None else round(max(now_s - newest_at_s, 0.0), 3),
        "lag": None if below is None else below.waiting,
        "oldest_waiting_s": waits,
        "behind": waits is not None and waits > settings.supervisor.behind_after_s,
        "failed_runs": 0,
        "failing_checks": [],
        "open_gaps": 0,
    }


def _why(error: Exception, settings: Settings) -> str:
    """Return why the lake's figures cannot be had, in a sentence."""
    if isinstance(error, TopicError | KafkaException):
        return f"the lag is not known: {error.args[0].str() if isinstance(error, KafkaException) else error}"

    from k2_assets.orchestration import wait_reasons  # noqa: PLC0415  # loads SQLAlchemy, which nothing else here needs

    return f"the lake cannot be read: {wait_reasons.sentence(error, settings)}"


def _of_feed(now: StackState) -> Iterator[str]:
    """Warn of what the feed of this platform says, which may listen on another port than the settings name."""
    feed = now.part("feed")
    if feed is not None and feed.port is not None:
        yield from warning_sentences.of_feed(_feed_health(feed.port), recorded=now.recorded)


def _feed_health(port: int) -> dict[str, Any]:
    """Ask the feed how its venues are; empty when it does not answer, which the supervisor tells."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_FEED_WAIT_S)
    try:
        connection.request("GET", "/health")
        found = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}
