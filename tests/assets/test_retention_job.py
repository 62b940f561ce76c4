"""The asset, its schedule and the command of retention: shells around what is done to each table."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from k2_assets.build_definitions import build_definitions
from k2_assets.maintenance import retention_job as shell
from k2_assets.maintenance.retention_command import retention
from k2_assets.maintenance.retention_job import retention_schedule
from k2_core.lake.tables import GOLD_TRADES
from k2_core.settings import LegalHold, Retention, Settings
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade, ids_of

NEXT = DAY + timedelta(days=1)
HOLD = LegalHold.model_validate({"from": NEXT, "to": NEXT, "reason": "case 17"})
ROLLING = Retention(profile="rolling", days={"gold_ohlcv_1m": None}, legal_holds=(HOLD,))


@pytest.fixture
def rolling(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two old days in silver and in gold, the second of which a legal hold keeps."""
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    for day in (DAY, NEXT):
        lake.trades_refresh(day).take_in_news()
    monkeypatch.setattr("k2_core.settings.load_settings", lambda: settings)
    settings = Settings(home=lake.home, retention=ROLLING)
    return settings


def run(settings: Settings, **config: bool) -> dict[str, Any]:
    definitions = build_definitions(settings, DAY)
    with dg.instance_for_test() as instance:
        run_config = {"ops": {shell.ASSET: {"config": config}}} if config else None
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(shell.ASSET)], run_config=run_config
        )
        [event] = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_run_by_hand_shows_what_would_go_and_one_without_dry_run_removes_it(
    rolling: Settings, lake: SmallLake
) -> None:
    shown = run(rolling)
    assert ids_of(lake) == [1, 2]
    assert f"| {SILVER.name} | {DAY} | 1 | 0.0 | would be removed |" in shown["days"]

    done = run(rolling, dry_run=False)

    assert (done["rows"], done["profile"], done["dry run"]) == (1, "rolling", False)
    assert f"| {SILVER.name} | {DAY} | 1 | 0.0 | removed |" in done["days"]
    assert f"| {SILVER.name} | {NEXT} | 1 | 0.0 | stays: legal hold: case 17 |" in done["days"]
    assert ids_of(lake) == [2]
    assert len(lake.rows(GOLD_TRADES)) == 2


def test_nothing_goes_while_the_profile_is_archive(rolling: Settings, lake: SmallLake) -> None:
    archive = rolling.model_copy(update={"retention": Retention()})
    assert run(archive, dry_run=False)["rows"] == 0
    assert ids_of(lake) == [1, 2]


def test_the_schedule_removes_every_night_where_the_profile_is_rolling() -> None:
    job = shell.retention_job()
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(instance=instance)
        archive = retention_schedule(job, Settings()).evaluate_tick(context)
        rolling = retention_schedule(job, Settings(retention=ROLLING)).evaluate_tick(context)
    assert (archive.skip_message, archive.run_requests) == (shell.NOTHING, [])
    [request] = rolling.run_requests or []
    assert request.run_config == {"ops": {"retention": {"config": {"dry_run": False}}}}


def test_the_command_shows_and_removes_only_when_asked(
    rolling: Settings, lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(retention, catch_exceptions=False)
    assert "would be removed" in shown.output
    assert "stays: legal hold: case 17" in shown.output
    assert ids_of(lake) == [1, 2]

    done = CliRunner().invoke(retention, ["--remove"], catch_exceptions=False)

    assert "│ removed" in done.output
    assert ids_of(lake) == [2]
    archive = rolling.model_copy(update={"retention": Retention()})
    monkeypatch.setattr("k2_core.settings.load_settings", lambda: archive)
    assert CliRunner().invoke(retention, catch_exceptions=False).output.strip() == shell.NOTHING
