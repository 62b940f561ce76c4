"""k2 backfill by what it prints and how it ends; what it asks is answered as Dagster did on a real platform."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from k2_stack.cli import main

SILVER, GOLD, CANDLES = "silver_binance_trades", "gold_crypto_trades", "gold_ohlcv_1m"
DAYS = ["--from", "2024-08-09", "--to", "2024-08-10"]


def a_node(name: str, *followers: str, materializable: bool = True) -> dict[str, Any]:
    return {
        "assetKey": {"path": [name]},
        "isMaterializable": materializable,
        "isPartitioned": True,
        "dependedByKeys": [{"path": [each]} for each in followers],
    }


def a_progress(status: str, targeted: int, done: int, failed: int) -> dict[str, Any]:
    counts = {"numPartitionsTargeted": targeted, "numPartitionsMaterialized": done, "numPartitionsFailed": failed}
    return {
        "__typename": "PartitionBackfill",
        "status": status,
        "error": None,
        "assetBackfillData": {"assetBackfillStatuses": [counts]},
    }


class Dagster(BaseHTTPRequestHandler):
    """Answers in turn what a backfill's progress is."""

    progress: ClassVar[list[dict[str, Any]]] = []
    launched: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:  # the base class's name
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"data": self.answer(asked["query"], asked["variables"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "assetNodes" in query:
            nodes = [a_node(SILVER, GOLD, "outside"), a_node(GOLD, CANDLES), a_node(CANDLES)]
            return {"assetNodes": [*nodes, a_node("outside", materializable=False)]}
        if "partitionKeys" in query:
            return {"assetNodeOrError": {"partitionKeys": ["2024-08-08", "2024-08-09", "2024-08-10"]}}
        if "launchPartitionBackfill" in query:
            self.launched.append(variables["params"])
            return {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abc"}}
        if "runs {" in query:
            runs = [
                {"id": day, "status": status, "tags": [{"key": "dagster/partition", "value": day}]}
                for day, status in (("2024-08-10", "FAILURE"), ("2024-08-09", "FAILURE"), ("2024-08-08", "SUCCESS"))
            ]
            return {"partitionBackfillOrError": {"runs": runs}}
        if "logsForRun" in query:
            return {"logsForRun": {"events": events_of(variables["run"])}}
        return {"partitionBackfillOrError": self.progress.pop(0)}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def events_of(run: str) -> list[dict[str, Any]]:
    if run == "2024-08-10":
        return [{"__typename": "RunFailureEvent", "message": "Run timed out."}]
    error = {
        "message": "dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op\n",
        "causes": [{"message": "k2_core.errors.DoubledRows: bronze holds 3 messages twice: mend it first\n"}],
    }
    return [{"__typename": "ExecutionStepFailureEvent", "stepKey": SILVER, "error": error}]


@pytest.fixture(name="dagster")
def a_dagster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Dagster]]:
    server = HTTPServer(("127.0.0.1", 0), Dagster)
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setenv("K2_PORTS__DAGSTER", str(server.server_port))
    monkeypatch.setattr("k2_stack.backfill._POLL_S", 0.01)
    Dagster.launched.clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Dagster
    server.shutdown()
    thread.join()
    server.server_close()


def backfill(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backfill", *arguments])


def test_progress_is_told_line_by_line_in_a_pipe(dagster: type[Dagster]) -> None:
    dagster.progress = [
        a_progress("REQUESTED", 0, 0, 0),
        a_progress("REQUESTED", 2, 1, 0),
        a_progress("REQUESTED", 2, 1, 0),
        a_progress("COMPLETED_SUCCESS", 2, 2, 0),
    ]

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 0
    assert [line.rpartition("] ")[2] for line in done.stdout.splitlines()[1:]] == [
        "0 of 0 partitions done",
        "1 of 2 partitions done",
        "2 of 2 partitions done",
        "2 partitions made",
    ]
    assert dagster.launched == [
        {"assetSelection": [{"path": [SILVER]}], "partitionNames": ["2024-08-09", "2024-08-10"]}
    ]


def test_what_is_derived_comes_along_when_it_is_asked_for(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_SUCCESS", 6, 6, 0)]

    assert backfill(SILVER, *DAYS, "--with-downstream").exit_code == 0

    assert [key["path"] for key in dagster.launched[0]["assetSelection"]] == [[SILVER], [GOLD], [CANDLES]]


def test_a_failed_partition_ends_with_1_and_says_why(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_FAILED", 3, 1, 2)]

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "k2: also the run of 2024-08-10: Run timed out.",
        f"k2: 2 of 3 partitions not made; why: {SILVER} of 2024-08-09: bronze holds 3 messages twice: mend it first; "
        f"see {done.stdout.splitlines()[0].split('; ')[1]}",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SILVER, "--from", "yesterday", "--to", "2024-08-09"), "'yesterday' is not a day such as 2024-08-09"),
        ((SILVER, "--from", "2024-08-10", "--to", "2024-08-09"), "--from 2024-08-10 is later than --to 2024-08-09"),
        ((SILVER, "--from", "2024-08-10"), "Missing option '--to'"),
        (("silver", *DAYS), f"there is no asset silver with days; there are: {GOLD}, {CANDLES}, {SILVER}"),
        (("outside", *DAYS), "there is no asset outside with days"),
        ((SILVER, "--from", "2024-08-07", "--to", "2024-08-09"), "no day 2024-08-07: there are 2024-08-08 to 2024-08"),
    ],
)
def test_command_ends_with_2_when_it_is_used_wrongly(
    dagster: type[Dagster], arguments: tuple[str, ...], said: str
) -> None:
    done = backfill(*arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert dagster.launched == []


def test_command_ends_with_1_when_dagster_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setenv("K2_PORTS__DAGSTER", "1")

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert done.stderr.startswith("k2: Dagster does not answer at http://127.0.0.1:1 (")
    assert "start the platform with k2 up" in done.stderr
