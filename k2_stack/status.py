"""Put together what ``k2 status`` reports: the state of parts, and of the lake, Kafka and Dagster.

:func:`gather` is cheap enough to be called every second from a program. Nothing here loads pyiceberg or Dagster.
"""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NotRequired, TypedDict

from confluent_kafka import KafkaException

from k2_core import clock, disk_space
from k2_core.errors import NewerHome, TopicError
from k2_core.home_format import require_known_home
from k2_core.settings import Settings
from k2_stack import (
    alert_status,
    dagster_records,
    home_lock,
    kafka_lag,
    lake_status,
    layer_status,
    stack_state,
    warning_sentences,
)
from k2_stack.alert_status import AlertStatus
from k2_stack.dagster_records import FailedRun, FailingCheck
from k2_stack.iceberg_metadata import LakeTable, read_tables
from k2_stack.kafka_lag import Waiting
from k2_stack.layer_status import Below, Layer
from k2_stack.part_status import KEPT, PartStatus, part_statuses
from k2_stack.stack_state import StackState
from k2_stack.terminal import shown_key

READY, NOT_READY, READY_WITH_WARNINGS = 0, 1, 3
FAILED_WITHIN_S: Final = 3600.0
_FEED_WAIT_S: Final = 1.0
_CATALOG_WAIT_S: Final = 1.0


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
    alerts: AlertStatus
    warnings: list[str]
    message: NotRequired[str]


def gather(settings: Settings) -> Status:
    """Return the status of a home. Starts no process, and writes nothing.

    Raises:
        NewerHome: this K2 does not know the home's format.
    """
    lake = _Lake(settings)
    now = stack_state.read(settings)
    supervisor = home_lock.holder(settings)
    running = supervisor is not None
    parts = part_statuses(settings, now, running=running) if now else []
    # Kept runs do not count as parts that restart: one is replaced by the next every quarter of an hour.
    own = [part for part in parts if part["name"] not in KEPT]
    restarting = any(part["state"] == stack_state.RESTARTING for part in own)
    serving = {part["name"]: part["url"] for part in parts if part["state"] == stack_state.READY}
    lake.look(serving.get("broker"))
    records = _Records(settings)
    # Two sources may find the same fault, such as a full disk: it is reported once.
    wrong = dict.fromkeys([*(disk.sentence() for disk in disk_space.low_disks(settings)), *lake.wrong, *records.wrong])
    layers = layer_status.layers(
        lake.tables,
        lake.below,
        failed=records.failed,
        failing=records.failing,
        open_gaps=sum(map(len, lake.gaps.values())),
        behind_after_s=settings.supervisor.behind_after_s,
    )
    alerts = alert_status.alert_status(settings, supervisor.started if supervisor else None)
    found: Status = {
        "ready": bool(now and running and now.ready and not restarting),
        "source": now.source if now else None,
        "api_key": shown_key(settings),
        "home": str(settings.home),
        "parts": parts,
        "lag": {topic: each.messages for topic, each in lake.waiting.items()},
        "tables": {name: table.rows for name, table in lake.tables.items()},
        "newest_candle": lake.newest_candle,
        "layers": layers,
        "alerts": alerts,
        "warnings": [
            *(warning_sentences.of_parts(now, parts) if now and running else []),
            *(_of_feed(now) if now and "feed" in serving else []),
            *warning_sentences.of_layers(layers, settings.supervisor.behind_after_s),
            *warning_sentences.of_records(
                records.failed, records.failing, serving.get("dagster-webserver"), clock.now_s()
            ),
            *warning_sentences.of_gaps(lake.gaps),
            *alert_status.warnings(alerts),
            *wrong,
        ],
    }
    if wrong:
        found["message"] = "; ".join(wrong)
    return found


def exit_code(found: Status) -> int:
    """Return the exit status of ``k2 status``: 0 ready, 1 not ready, 3 ready with warnings."""
    if not found["ready"]:
        return NOT_READY
    return READY_WITH_WARNINGS if found["warnings"] else READY


def _of_feed(now: StackState) -> Iterator[str]:
    """Warn of what the feed of this platform reports, which may listen on another port than the settings name."""
    feed = now.part("feed")
    if feed is None or feed.port is None:
        return
    connection = http.client.HTTPConnection("127.0.0.1", feed.port, timeout=_FEED_WAIT_S)
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return  # it does not answer, which the supervisor reports
    finally:
        connection.close()
    if isinstance(health, dict):
        recorded = now.source.partition(" ")[0] == "recording"
        yield from warning_sentences.of_feed(health, recorded=recorded)


class _Lake:
    """What the lake and Kafka hold; ``wrong`` names what cannot be read.

    The tables are read at once, rows and Kafka by :meth:`look`.
    """

    def __init__(self, settings: Settings) -> None:
        self.tables: dict[str, LakeTable] = {}
        self.newest_candle: dict[str, Any] | None = None
        self.gaps: dict[tuple[str, str], list[lake_status.Ids]] = {}
        self.below: dict[str, Below] = {}
        self.waiting: dict[str, Waiting] = {}
        self.wrong: list[str] = []
        self._settings = settings
        with self._noting_errors():
            require_known_home(settings, wait_s=_CATALOG_WAIT_S)
            self.tables = read_tables(settings)
            self.below = layer_status.below(self.tables) if self.tables else {}

    def look(self, broker: str | None) -> None:
        """Read rows, and ask Kafka when there is one."""
        with ThreadPoolExecutor(max_workers=1) as beside:  # Kafka answers while the rows are read
            asked = beside.submit(self._ask, broker) if broker else None
            with self._noting_errors():
                self.newest_candle = lake_status.newest_candle(self.tables)
                self.gaps = lake_status.open_gaps(self.tables, clock.now())
            if asked is None:
                return
            with self._noting_errors():
                self.waiting = asked.result()
                self.wrong += [sentence for each in self.waiting.values() for sentence in each.wrong]
                times = [each.oldest_at_s for each in self.waiting.values() if each.oldest_at_s is not None]
                messages = sum(each.messages for each in self.waiting.values())
                self.below["bronze"] = Below(messages, min(times, default=None))

    def _ask(self, broker: str) -> dict[str, Waiting]:
        committed = {topic: self.tables[name].offsets for topic, name in layer_status.topics(self.tables).items()}
        return kafka_lag.waiting(broker, committed)

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        """Turn an error into a sentence of ``wrong``: whatever is wrong with a lake must not hide how the parts are."""
        try:
            yield
        except NewerHome:
            raise
        except (TopicError, KafkaException) as error:
            why = error.args[0].str() if isinstance(error, KafkaException) else error
            self.wrong.append(f"the lag is not known: {why}")
        except Exception as error:  # noqa: BLE001  # as the docstring says
            from k2_assets.orchestration import wait_reasons  # noqa: PLC0415  # loads SQLAlchemy

            self.wrong.append(f"the lake cannot be read: {wait_reasons.sentence(error, self._settings)}")


class _Records:
    """What Dagster has recorded; ``wrong`` names what cannot be read."""

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
