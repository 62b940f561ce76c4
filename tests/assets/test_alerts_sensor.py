"""The sensor of alerts beside a real Dagster instance and a real webhook: what becomes bad and what recovers."""

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType, TickData, TickStatus
from dagster._utils.error import SerializableErrorInfo
from pydantic import SecretStr

from k2_assets.alerts.alert_store import STORE, opened
from k2_assets.alerts.alerts_sensor import alerts_sensor
from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import kept_drain, kept_refine
from k2_assets.kept_runs.run_lease import leases_in
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_core import clock, process_identity
from k2_core.settings import Alerts, Settings
from tests.assets.webhooks import BROKEN, OK, SECRET, Webhook, a_webhook

DAYS = ("2024-08-09", "2024-08-10")
FIT = "check fit_for_candles of gold_crypto_trades"


class Wrong(Exception):
    """Something that a run met."""


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage on SQLite, as on one machine; to create it takes a second."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture(name="instance")
def an_empty_instance(dagster_home: dg.DagsterInstance) -> dg.DagsterInstance:
    dagster_home.wipe()
    dagster_home.wipe_all_schedules()
    return dagster_home


@pytest.fixture(name="hook")
def a_hook() -> Iterator[Webhook]:
    with a_webhook() as hook:
        yield hook


class Platform:
    """An instance with one asset, its check and two jobs; what the sensor of alerts does is seen at the hook."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings) -> None:
        self.instance, self.settings = instance, settings
        self.fails = False
        self._restart()

    def _restart(self) -> None:
        @dg.asset(
            partitions_def=daily(datetime.fromisoformat(DAYS[0]).date()),
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=12)),
        )
        def gold_crypto_trades() -> None:
            if self.fails:
                raise Wrong("a price of -1")

        @dg.asset_check(asset=gold_crypto_trades)
        def fit_for_candles() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=True)

        self._sensor = alerts_sensor(self.settings)
        self._all = dg.Definitions(
            assets=[gold_crypto_trades],
            asset_checks=[fit_for_candles],
            sensors=[self._sensor],
            executor=dg.in_process_executor,
        )

    def evaluation(self, day: str | None, passed: bool, **other: Any) -> dg.AssetCheckEvaluation:
        given = {"check_name": "fit_for_candles", "description": f"9 trades: {0 if passed else 1} unfit.", **other}
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("gold_crypto_trades"), passed=passed, partition=day, **given
        )

    def judge(self, *evaluations: dg.AssetCheckEvaluation, **passes: bool) -> None:
        """Report results in a run of its own: those given, and one for each ``day09=passes``."""
        of_days = [self.evaluation(f"2024-08-{name.removeprefix('day')}", passes) for name, passes in passes.items()]
        run_id = str(uuid.uuid4())
        for each in (*evaluations, *of_days):
            self._note(run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION, each)

    def plan_a_check(self) -> None:
        planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey("gold_crypto_trades"), check_name="fit_for_candles")
        self._note(str(uuid.uuid4()), dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)

    def _note(self, run_id: str, kind: dg.DagsterEventType, data: Any) -> None:
        event = dg.DagsterEvent(event_type_value=kind.value, job_name="gold_refine", event_specific_data=data)
        self.instance.report_dagster_event(event, run_id)

    @property
    def _job(self) -> dg.JobDefinition:
        return self._all.resolve_implicit_global_asset_job_def()

    def build_and_fail(self, day: str, **tags: str) -> str:
        self.fails = True
        run = self._a_run(day, **tags)
        assert not execute_run(InMemoryJob(self._job), run, self.instance).success
        return run.run_id

    def build(self, day: str) -> None:
        run = self._a_run(day)
        done = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_SUCCESS.value, run.job_name)
        self.instance.report_dagster_event(done, run.run_id)

    def _a_run(self, day: str, **tags: str) -> dg.DagsterRun:
        selection = frozenset({dg.AssetKey("gold_crypto_trades")})
        return self.instance.create_run_for_job(self._job, tags={PARTITION_TAG: day, **tags}, asset_selection=selection)

    def restart(self) -> None:
        """Begin again as a new process of the code server does."""
        self._restart()

    def tick(self) -> str:
        repository = self._all.get_repository_def()
        with dg.build_sensor_context(instance=self.instance, repository_def=repository) as context:
            result = self._sensor(context)
        assert isinstance(result, dg.SkipReason)
        assert result.skip_message
        return result.skip_message


@contextmanager
def kept_at_work(settings: Settings) -> Iterator[None]:
    """Have a drain and a refine beat, which wait for messages."""
    with Heart(kept_drain(settings), "drain-1") as drain, Heart(kept_refine(settings), "refine-1") as refine:
        drain.progress(WAITING)
        refine.progress(WAITING)
        yield


@pytest.fixture(name="platform")
def a_platform(instance: dg.DagsterInstance, hook: Webhook, tmp_path: Path) -> Iterator[Platform]:
    settings = Settings(home=tmp_path, alerts=Alerts(urls=(SecretStr(hook.url),), feed=False))
    with kept_at_work(settings):
        yield Platform(instance, settings)


@pytest.fixture(name="file")
def a_file_of_urls(tmp_path: Path) -> Path:
    file = tmp_path / "urls"
    file.write_text("# none yet\n")
    return file


@pytest.fixture(name="reading")
def a_platform_that_reads_the_file(instance: dg.DagsterInstance, file: Path, tmp_path: Path) -> Iterator[Platform]:
    settings = Settings(home=tmp_path, alerts=Alerts(urls_file=file, feed=False))
    with kept_at_work(settings):
        yield Platform(instance, settings)


def go_on_by(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, before = clock.now_s(), clock.monotonic()
    monkeypatch.setattr(clock, "now_s", lambda: now_s + seconds)
    monkeypatch.setattr(clock, "monotonic", lambda: before + seconds)


def test_failing_check_is_reported_by_day_and_its_recovery_as_well(platform: Platform, hook: Webhook) -> None:
    platform.judge(day09=True, day10=True)
    assert platform.tick() == "no conditions are bad; 0 changes to report"
    platform.judge(day09=False, day10=True)
    platform.tick()
    platform.judge(day09=False, day10=True)
    platform.tick()
    (bad,) = hook.taken
    assert (bad["title"], bad["type"]) == (f"K2 error: {FIT} 2024-08-09", "failure")
    assert "9 trades: 1 unfit." in bad["message"]
    link = "http://127.0.0.1:3000/assets/gold_crypto_trades?view=checks&checkDetail=fit_for_candles"
    assert link in bad["message"]
    assert "runbook: docs/alerts.md#a-check-fails" in bad["message"]
    platform.judge(day10=True)
    platform.tick()
    assert len(hook.taken) == 1  # another day passed
    platform.judge(day09=True)
    platform.tick()
    assert hook.titles[1:] == [f"K2 recovered: {FIT} 2024-08-09"]
    assert hook.taken[1]["type"] == "success"


def test_results_of_one_run_are_each_seen_though_dagster_keeps_one_row_of_them(
    platform: Platform, hook: Webhook
) -> None:
    platform.judge(day09=False, day10=False)
    platform.tick()
    platform.judge(platform.evaluation("2024-08-09", passed=True))
    platform.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09 and 1 more", f"K2 recovered: {FIT} 2024-08-09"]
    assert hook.taken[1]["type"] == "info"  # the other day is still bad


def test_planned_evaluation_is_no_result(platform: Platform, hook: Webhook) -> None:
    platform.judge(day09=False)
    platform.tick()
    platform.plan_a_check()
    platform.tick()
    assert len(hook.taken) == 1


def test_result_of_no_day_counts_until_a_day_is_judged(platform: Platform, hook: Webhook) -> None:
    platform.judge(platform.evaluation(None, passed=False))
    platform.tick()
    platform.judge(platform.evaluation("2024-08-10", passed=True))
    platform.tick()
    assert hook.titles == [f"K2 error: {FIT}", f"K2 recovered: {FIT}"]


def test_warning_is_forgotten_after_a_day_and_a_check_that_is_gone_at_once(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    warns = dg.AssetCheckSeverity.WARN
    platform.judge(platform.evaluation("2024-08-09", passed=False, severity=warns))
    platform.judge(platform.evaluation("2024-08-09", passed=False, check_name="no_longer_there"))
    assert platform.tick() == "1 conditions are bad; 1 changes to report"
    go_on_by(86_410, monkeypatch)
    platform.tick()
    assert not [key for key in bad_of(platform) if key.startswith("check")]
    assert hook.titles[0] == f"K2 warning: {FIT} 2024-08-09"
    assert not any("recovered" in title for title in hook.titles)


def test_failed_run_is_bad_until_a_later_one_of_the_same_day_succeeds(platform: Platform, hook: Webhook) -> None:
    run_id = platform.build_and_fail("2024-08-09")
    platform.tick()
    (bad,) = hook.taken
    assert bad["title"] == "K2 error: run of gold_crypto_trades 2024-08-09"
    assert "Wrong: a price of -1" in bad["message"]
    assert f"http://127.0.0.1:3000/runs/{run_id}" in bad["message"]
    platform.build("2024-08-10")
    platform.tick()
    assert len(hook.taken) == 1
    platform.build("2024-08-09")
    platform.tick()
    assert hook.titles[1:] == ["K2 recovered: run of gold_crypto_trades 2024-08-09"]


def test_run_that_dagster_starts_again_is_not_reported(platform: Platform, hook: Webhook) -> None:
    platform.build_and_fail("2024-08-09", **{"dagster/will_retry": "true"})
    platform.tick()
    assert hook.taken == []


def test_failed_run_of_a_drain_is_bad_until_the_next_drain_works(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job(name=kept_drain(platform.settings).job)
    def drains() -> None:
        dg.op(name="moves")(lambda: None)()

    run = platform.instance.create_run_for_job(drains, status=dg.DagsterRunStatus.STARTED)
    platform.instance.report_run_failed(run, "The drain is dead: its process is gone.")
    platform.tick()
    assert hook.titles == []  # the next one works already
    drain = kept_drain(platform.settings)
    with monkeypatch.context() as between:
        between.setattr(process_identity.ProcessIdentity, "is_running", lambda _: False)
        run = platform.instance.create_run_for_job(drains, status=dg.DagsterRunStatus.STARTED)
        platform.instance.report_run_failed(run, f"The {drain.label} is dead: its process is gone.")
        platform.tick()
    assert hook.titles == ["K2 error: run of main_drain"]
    assert "The drain is dead: its process is gone." in hook.taken[0]["message"]
    platform.tick()
    assert hook.titles[1:] == ["K2 recovered: run of main_drain"]


def bad_of(platform: Platform) -> list[str]:
    with opened(platform.settings.home) as store:
        return [key for key, each in store.known().items() if each.bad]


def test_drain_that_is_gone_hangs_or_waits_is_reported(
    instance: dg.DagsterInstance, hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, alerts=Alerts(urls=(SecretStr(hook.url),), feed=False))
    platform = Platform(instance, settings)
    with Heart(kept_refine(settings), "refine-1") as refine, Heart(kept_drain(settings), "drain-1") as drain:
        refine.progress(WAITING)
        drain.progress(WAITING, "Kafka does not answer")
        drain._write()
        platform.tick()
        assert hook.taken == []  # for a moment that is no trouble
        go_on_by(61, monkeypatch)
        drain._write()
        platform.tick()
        assert [hook.taken[0]["title"], hook.taken[0]["type"]] == ["K2 warning: drain", "warning"]
        assert "Kafka does not answer" in hook.taken[0]["message"]
        drain.progress("committing")
        go_on_by(400, monkeypatch)
        drain._write()
        platform.tick()
        assert "WARNING" not in hook.taken[-1]["message"]
        assert "It hangs: no progress for" in hook.taken[-1]["message"]
    go_on_by(1000, monkeypatch)
    platform.tick()
    assert "K2 error: refine" in hook.titles[-1]
    assert "No refine works; the last one did at" in hook.taken[-1]["message"]


def test_asset_that_is_not_fresh_is_reported(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def becomes(new: FreshnessState, previous: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=dg.AssetKey("gold_crypto_trades"),
            new_state=new,
            previous_state=previous,
            state_change_timestamp=clock.now_s(),
        )
        platform.instance._report_runless_asset_event(change)

    becomes(FreshnessState.FAIL, FreshnessState.PASS)
    platform.tick()
    assert hook.taken == []
    go_on_by(100, monkeypatch)
    platform.tick()
    assert "K2 error: freshness of gold_crypto_trades" in hook.titles[0]
    becomes(FreshnessState.PASS, FreshnessState.FAIL)
    go_on_by(40, monkeypatch)
    platform.tick()
    assert hook.titles[-1] == "K2 recovered: freshness of gold_crypto_trades"


def test_sensor_whose_ticks_fail_is_reported(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = remote_origin("refine_sensor")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    platform.instance.add_instigator_state(state)
    error = SerializableErrorInfo("sqlite3.OperationalError: database is locked", [], "OperationalError")

    def ticked(status: TickStatus, error: SerializableErrorInfo | None = None) -> None:
        platform.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name="refine_sensor",
                instigator_type=InstigatorType.SENSOR,
                status=status,
                timestamp=clock.now_s(),
                selector_id=state.selector_id,
                error=error,
            )
        )

    ticked(TickStatus.FAILURE, error)
    platform.tick()
    assert hook.taken == []
    go_on_by(61, monkeypatch)
    ticked(TickStatus.FAILURE, error)
    ticked(TickStatus.STARTED)
    platform.tick()
    (bad,) = hook.taken
    assert "K2 error: sensor refine_sensor" in bad["title"]
    assert "database is locked" in bad["message"]
    assert "http://127.0.0.1:3000/locations/k2/sensors/refine_sensor" in bad["message"]
    go_on_by(40, monkeypatch)
    ticked(TickStatus.SKIPPED)
    platform.tick()
    assert "K2 recovered: sensor refine_sensor" in hook.titles[-1]


def remote_origin(name: str) -> Any:
    from dagster._core.remote_origin import (  # noqa: PLC0415
        RegisteredCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )

    return RemoteInstigatorOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("k2"), "__repository__"), name)


def a_feed(health: dict[str, Any]) -> tuple[HTTPServer, Thread]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(health).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    return server, thread


def test_feed_without_a_connection_or_an_answer_is_reported_when_it_lasts(
    instance: dg.DagsterInstance, hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue: dict[str, Any] = {"connected": False, "message": "cannot be reached; next attempt in 8 s", "states": {}}
    health = {"venues": {"binance": venue}}
    server, thread = a_feed(health)
    alerts = Alerts(urls=(SecretStr(hook.url),), feed_url=f"http://127.0.0.1:{server.server_port}/health")
    settings = Settings(home=tmp_path, alerts=alerts)
    platform = Platform(instance, settings)
    try:
        with kept_at_work(settings):
            platform.tick()
            assert hook.taken == []
            go_on_by(61, monkeypatch)
            platform.tick()
            assert hook.titles == ["K2 error: feed of binance: not connected"]
            assert "cannot be reached" in hook.taken[0]["message"]
            venue["connected"] = True
            venue["states"] = {"silence": ["ETHUSDT is quiet"], "skew": ["its clock is 4 s behind"]}
            go_on_by(10, monkeypatch)
            platform.tick()
            go_on_by(61, monkeypatch)
            platform.tick()
            assert hook.titles[1:] == [
                "K2 recovered: feed of binance: not connected",
                "K2 warning: feed of binance: skew",
            ]
            server.shutdown()
            server.server_close()
            go_on_by(10, monkeypatch)
            platform.tick()
            go_on_by(61, monkeypatch)
            platform.tick()
            assert "K2 error: feed: no answer" in hook.titles
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_lost_post_and_a_restart_lose_nothing_and_send_nothing_twice(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.answers = BROKEN
    platform.judge(day09=False)
    platform.tick()
    assert (hook.refused, hook.taken) == (1, [])
    platform.restart()
    platform.judge(day09=True)
    platform.tick()
    hook.answers = OK
    go_on_by(15, monkeypatch)
    platform.restart()
    platform.tick()
    platform.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09", f"K2 recovered: {FIT} 2024-08-09"]


def test_events_are_read_once_and_from_the_start_when_dagsters_home_was_made_again(
    platform: Platform, hook: Webhook, tmp_path: Path
) -> None:
    for _ in range(3):
        platform.judge(day09=False)
    platform.tick()
    with opened(tmp_path) as store:
        position = store.position()
    assert position > 0
    platform.tick()
    with opened(tmp_path) as store:
        assert store.position() == position
    platform.instance.wipe()
    platform.restart()
    platform.judge(day09=True)
    platform.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09", f"K2 recovered: {FIT} 2024-08-09"]


def test_without_a_url_conditions_are_kept_and_reported_once_there_is_one(
    reading: Platform, hook: Webhook, file: Path
) -> None:
    reading.judge(day09=False)
    reading.tick()
    file.write_text(hook.url)
    reading.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09"]


def test_file_of_urls_that_cannot_be_read_delays_messages_and_is_reported_as_trouble(
    reading: Platform, hook: Webhook, file: Path, tmp_path: Path
) -> None:
    file.write_text(hook.url)
    reading.tick()
    file.unlink()
    reading.judge(day09=False)
    assert "K2_ALERTS__URLS_FILE cannot be used" in reading.tick()
    with opened(tmp_path) as store:
        look = store.look()
    assert look
    assert "K2_ALERTS__URLS_FILE" in look.trouble
    file.write_text(hook.url)
    reading.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09"]


def test_two_looks_at_once_send_nothing_twice(platform: Platform, hook: Webhook, tmp_path: Path) -> None:
    platform.judge(day09=False)
    other = leases_in(tmp_path / "run").take("alerts")
    assert other
    assert platform.tick() == "another look is under way"
    other.release()
    platform.tick()
    assert len(hook.taken) == 1


def test_what_cannot_be_read_hides_nothing_else(
    platform: Platform, hook: Webhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def is_locked(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("k2_assets.alerts.dagster_conditions.read_runs", is_locked)
    platform.judge(day09=False)
    assert "conditions of the kind run cannot be read (OperationalError: database is locked)" in platform.tick()
    assert hook.titles == [f"K2 error: {FIT} 2024-08-09"]


def test_no_file_of_a_home_holds_a_url(platform: Platform, hook: Webhook, tmp_path: Path) -> None:
    hook.answers = BROKEN
    platform.judge(day09=False)
    platform.tick()
    with closing(sqlite3.connect(tmp_path / "run" / STORE)) as connection:
        text = "\n".join(connection.iterdump())
    assert "error=500" in text
    assert SECRET not in text
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_look_with_nothing_to_send_loads_no_apprise(tmp_path: Path) -> None:
    looking = (
        "import sys, dagster as dg; from k2_core.settings import Settings; from pathlib import Path\n"
        "from k2_assets.alerts.watcher import Watcher\n"
        "home = Path(sys.argv[1])\n"
        "settings = Settings(home=home, alerts={'urls': ['json://127.0.0.1:9/'], 'feed': False})\n"
        "@dg.op\ndef does(): pass\n"
        "@dg.job\ndef job(): does()\n"
        "with dg.DagsterInstance.local_temp(str(home)) as instance:\n"
        "    print(Watcher(settings).look(instance, dg.Definitions(jobs=[job]).get_repository_def()))\n"
        "print('loaded', sorted({'apprise', 'requests.adapters'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", looking, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["no conditions are bad; 0 changes to report", "loaded []"]
