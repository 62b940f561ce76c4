"""k2 backfill by what it prints and how it ends; what it asks is answered as Dagster did on a real platform."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from dagster._utils import get_run_crash_explanation

from k2_core import process_identity
from k2_core.settings import Settings
from k2_stack import stack_state
from k2_stack.cli import main
from k2_stack.dagster_graphql import MARKED_FAILED
from tests.stack.homes import running_home

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
    runs: ClassVar[list[dict[str, Any]]] = []
    events: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    reported: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    again: ClassVar[dict[str, str]] = {}

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
        if "partitionKeys } }" in query:
            return {"assetNodeOrError": {"partitionKeys": ["2024-08-08", "2024-08-09", "2024-08-10"]}}
        if "launchPartitionBackfill" in query:
            self.launched.append(variables["params"])
            return {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abc"}}
        if "runs {" in query:
            return {"partitionBackfillOrError": {"runs": self.runs}}
        if "assetBackfillData" in query:
            return {"partitionBackfillOrError": self.progress.pop(0)}
        return self.answer_again(query, variables)

    def answer_again(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer what is asked about runs, and to rebuild what failed."""
        if "logsForRun" in query:
            events, at = self.events[variables["run"]], int(variables["after"] or 0)
            page = {"events": events[at : at + 1], "cursor": str(at + 1), "hasMore": at + 1 < len(events)}
            return {"logsForRun": page}
        if "reexecutePartitionBackfill" in query:
            self.launched.append(variables["params"])
            return {"reexecutePartitionBackfill": self.again}
        if "runOrError" in query:
            return {"runOrError": {"assetMaterializations": self.reported.get(variables["run"], [])}}
        if "partitionsTargetedForAssetKey" not in query:
            return {"partitionBackfillOrError": {"assetSelection": [{"path": [SILVER]}, {"path": [GOLD]}]}}
        targeted: dict[str, Any] = {"partitionKeys": None, "ranges": [{"start": "2024-08-09", "end": "2024-08-10"}]}
        if variables["key"]["path"] == [GOLD]:
            targeted = {"partitionKeys": ["2024-08-10"], "ranges": None}
        return {"partitionBackfillOrError": {"partitionsTargetedForAssetKey": targeted}}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def a_run(day: str, status: str = "FAILURE", **tags: str) -> dict[str, Any]:
    named = {"dagster/partition": day} | {key.replace("_", "/", 1): value for key, value in tags.items()}
    return {
        "id": day,
        "status": status,
        "tags": [{"key": key, "value": value} for key, value in named.items()],
        "assetSelection": [{"path": [SILVER]}],
    }


def an_error(*messages: str) -> dict[str, Any]:
    """Return an error as Dagster gives it: what it says itself, and its causes."""
    return {"message": messages[0], "causes": [{"message": message} for message in messages[1:]]}


def an_end(message: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"__typename": "RunFailureEvent", "message": message, "error": error}


def an_engine_event(error: dict[str, Any] | None = None, message: str = "Executing steps.") -> dict[str, Any]:
    return {"__typename": "EngineEvent", "message": message, "error": error}


def a_crash(exit_code: int) -> dict[str, Any]:
    said = get_run_crash_explanation("Run execution process for cf38fe08-c350-4cc7", exit_code)
    return an_engine_event(message=f"[DagsterApiServer] {said}")


STEP_FAILED = {
    "__typename": "ExecutionStepFailureEvent",
    "stepKey": SILVER,
    "error": an_error(
        "dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op\n",
        "k2_core.errors.DoubledRows: bronze holds 3 messages twice: mend it first\n",
    ),
}
UNREACHABLE = an_error(
    "dagster._core.errors.DagsterUserCodeUnreachableError: User code server request timed out due to taking longer "
    "than 60 seconds to complete.\n"
)


@pytest.fixture(name="dagster")
def a_dagster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Dagster]]:
    server = HTTPServer(("127.0.0.1", 0), Dagster)
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setattr("k2_stack.backfill._POLL_S", 0.01)
    Dagster.launched.clear()
    monkeypatch.setattr(Dagster, "reported", {})
    monkeypatch.setattr(Dagster, "runs", [])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with running_home(Settings(home=tmp_path), **{"dagster-webserver": f"http://127.0.0.1:{server.server_port}"}):
        yield Dagster
    server.shutdown()
    thread.join()
    server.server_close()


def backfill(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backfill", *arguments])


def test_progress_is_printed_line_by_line_in_a_pipe(dagster: type[Dagster]) -> None:
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
        "2 partitions rebuilt",
    ]
    assert dagster.launched == [
        {
            "assetSelection": [{"path": [SILVER]}],
            "partitionNames": ["2024-08-09", "2024-08-10"],
            "tags": [{"key": "dagster/max_retries", "value": "2"}],
        }
    ]


def test_what_is_derived_comes_along_when_it_is_asked_for(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_SUCCESS", 6, 6, 0)]

    assert backfill(SILVER, *DAYS, "--with-downstream").exit_code == 0

    assert [key["path"] for key in dagster.launched[0]["assetSelection"]] == [[SILVER], [GOLD], [CANDLES]]


def test_a_failed_partition_ends_with_1_and_says_why(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_FAILED", 3, 1, 2)]
    dagster.runs = [a_run("2024-08-10"), a_run("2024-08-09"), a_run("2024-08-08", "SUCCESS")]
    step = [*[an_engine_event()] * 3, STEP_FAILED, an_end('Execution of run for "silver" failed.')]
    dagster.events = {"2024-08-10": [an_end("Run timed out.")], "2024-08-09": step}

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "k2: also the run of 2024-08-10: Run timed out.",
        f"k2: 2 of 3 partitions not rebuilt; why: {SILVER} of 2024-08-09: bronze holds 3 messages twice: mend it first"
        f"; see {done.stdout.splitlines()[0].split('; ')[1]}",
    ]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (
            [an_engine_event(UNREACHABLE), an_end(MARKED_FAILED)],
            "it was not started: User code server request timed out due to taking longer than 60 seconds to complete.",
        ),
        ([an_engine_event(UNREACHABLE), an_end("Its process is gone.")], "Its process is gone."),
        (
            [an_end("failed", an_error("dagster.X: disk full", "k2_core.errors.PartError: the disk is full\n"))],
            "the disk",
        ),
        (
            [a_crash(-9), an_end(MARKED_FAILED), an_engine_event()],
            "its process was terminated by signal 9 (SIGKILL); see",
        ),
        ([a_crash(3), an_end(MARKED_FAILED)], "its process unexpectedly exited with code 3; see"),
        ([an_end(MARKED_FAILED)], MARKED_FAILED),
        ([an_engine_event()], "failure"),
    ],
)
def test_the_reason_of_a_run_that_did_nothing_is_the_one_that_dagster_noted(
    dagster: type[Dagster], events: list[dict[str, Any]], why: str
) -> None:
    dagster.progress = [a_progress("COMPLETED_FAILED", 1, 0, 1)]
    dagster.runs = [a_run("2024-08-09")]
    dagster.events = {"2024-08-09": events}

    assert f"why: the run of 2024-08-09: {why}" in backfill(SILVER, *DAYS).stderr


def test_a_run_that_was_started_again_is_no_reason(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_FAILED", 2, 1, 1)]
    dagster.runs = [a_run("2024-08-09", dagster_auto_retry_run_id="next"), a_run("2024-08-10")]
    dagster.events = {"2024-08-10": [STEP_FAILED]}

    said = backfill(SILVER, *DAYS).stderr

    assert "2024-08-10: bronze holds" in said
    assert "2024-08-09" not in said


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

    with running_home(Settings(home=tmp_path), **{"dagster-webserver": "http://127.0.0.1:1"}):
        done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert done.stderr.startswith("k2: Dagster does not answer at http://127.0.0.1:1 (")
    assert "start the platform with k2 up" in done.stderr


def test_waiting_ends_when_the_platform_does(
    dagster: type[Dagster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dagster.progress = [a_progress("REQUESTED", 2, 1, 0)]  # then nothing answers, and nobody holds the home
    holders = iter([process_identity.this_process(), None])
    monkeypatch.setattr("k2_stack.home_lock.holder", lambda _: next(holders))

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert f"k2: no platform runs from {tmp_path}: " in done.stderr


def test_waiting_ends_when_dagster_answers_that_it_knows_no_such_backfill(dagster: type[Dagster]) -> None:
    dagster.progress = [{"__typename": "BackfillNotFoundError"}, a_progress("COMPLETED_SUCCESS", 2, 2, 0)]

    done = backfill(SILVER, *DAYS)

    assert done.exit_code == 1
    assert "k2: Dagster knows no backfill " in done.stderr


def test_a_home_that_runs_no_platform_is_refused_though_another_holds_the_port(
    dagster: type[Dagster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = stack_state.running(Settings(home=tmp_path)).url("dagster-webserver")
    monkeypatch.setenv("K2_PORTS__DAGSTER", other.rpartition(":")[2])
    for home in (tmp_path / "mistyped", stopped_home(tmp_path / "stopped", other)):
        monkeypatch.setenv("K2_HOME", str(home))

        done = backfill(SILVER, *DAYS)

        assert (done.exit_code, dagster.launched) == (1, [])
        assert done.stderr == (
            f"k2: no platform runs from {home}: start it with `k2 up`, or set K2_HOME to the home of one.\n"
        )
    assert not (tmp_path / "mistyped").exists()


def stopped_home(home: Path, url: str) -> Path:
    """Make a home whose platform held that port before it ended."""
    with running_home(Settings(home=home), **{"dagster-webserver": url}):
        return home


def test_what_failed_is_named_by_days_with_the_command_that_rebuilds_it(dagster: type[Dagster]) -> None:
    dagster.progress = [a_progress("COMPLETED_FAILED", 2, 1, 1)]
    both = {"dagster_asset_partition_range_start": "2024-08-09", "dagster_asset_partition_range_end": "2024-08-10"}
    dagster.runs = [a_run("2024-08-09", **both) | {"tags": tags_of(both)}]
    dagster.reported = {"2024-08-09": [{"partition": "2024-08-09", "assetKey": {"path": [SILVER]}}]}
    dagster.events = {"2024-08-09": [STEP_FAILED]}

    done = backfill(SILVER, *DAYS)

    assert done.stdout.splitlines()[-2:] == [
        f"not rebuilt: {SILVER}: 2024-08-10",
        "to rebuild these days alone: k2 backfill --failed-of abc",
    ]


def tags_of(named: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key.replace("_", "/", 1), "value": value} for key, value in named.items()]


def test_what_a_backfill_did_not_rebuild_can_be_rebuilt_alone(dagster: type[Dagster]) -> None:
    dagster.again = {"__typename": "LaunchBackfillSuccess", "backfillId": "next"}
    dagster.progress = [a_progress("COMPLETED_SUCCESS", 3, 3, 0)]

    done = backfill("--failed-of", "abc")

    assert done.exit_code == 0
    assert done.stdout.startswith(f"{SILVER}, {GOLD}: 3 partitions that abc did not rebuild; http")
    assert dagster.launched == [{"parentRunId": "abc", "strategy": "FROM_FAILURE"}]


def test_a_backfill_of_which_nothing_failed_is_refused_in_a_sentence(dagster: type[Dagster]) -> None:
    said = "dagster._core.errors.DagsterInvariantViolationError: Cannot re-execute from failure: nothing is missing.\n"
    dagster.again = {"__typename": "PythonError", "message": said}

    done = backfill("--failed-of", "abc")

    assert done.exit_code == 1
    assert done.stderr == "k2: Dagster refuses the backfill: Cannot re-execute from failure: nothing is missing.\n"


def test_failed_of_takes_no_other_days(dagster: type[Dagster]) -> None:
    done = backfill(SILVER, "--failed-of", "abc")

    assert done.exit_code == 2
    assert "--failed-of names the backfill" in done.stderr
    assert dagster.launched == []
