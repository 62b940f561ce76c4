"""The job, its schedule and the command: shells around the rounds."""

import time
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from k2_assets.build_definitions import build_definitions
from k2_assets.maintenance import maintain_job as shell
from k2_assets.maintenance.maintain_command import maintain
from k2_assets.maintenance.table_round import TableRound
from k2_core.lake.tables import all_tables
from k2_core.settings import Maintenance, Settings
from k2_core.venues import VENUES
from tests.assets.lakes import DAY, SILVER, SmallLake, a_trade, ids_of


@pytest.fixture
def small(lake: SmallLake) -> Settings:
    """A lake with twenty commits, of which none is young."""
    eager = Maintenance(compact_after_s=0, drained_keep_s=1)
    for number in range(20):
        lake.append(SILVER, [a_trade(number)])
    time.sleep(eager.drained_keep_s)
    return Settings(home=lake.home, maintenance=eager)


def outcome(settings: Settings, instance: dg.DagsterInstance) -> Any:
    definitions = build_definitions(settings, DAY)
    return definitions.resolve_job_def(shell.JOB).execute_in_process(instance=instance, raise_on_error=False)


def test_the_job_maintains_every_table_and_reports_each(small: Settings, lake: SmallLake) -> None:
    with dg.instance_for_test() as instance:
        result = outcome(small, instance)
        events = result.events_for_node("keep_tables_lean")
        [event] = [e for e in events if e.event_type_value == "STEP_OUTPUT"]
        reports = event.event_specific_data.metadata
    assert result.success
    assert reports.keys() == {spec.name for spec in all_tables(tuple(VENUES))}
    assert reports[SILVER.name].value["files_joined"] == 20
    assert ids_of(lake) == list(range(20))
    assert len(lake.table(SILVER).snapshots()) == reports[SILVER.name].value["snapshots_after"]


def test_a_table_that_fails_keeps_no_other_from_its_round(
    small: Settings, lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TableRound.run

    def run(self: TableRound) -> Any:
        if self.report.table == "bronze_binance_trades":
            raise OSError("disk on fire")
        return original(self)

    monkeypatch.setattr(TableRound, "run", run)
    with dg.instance_for_test() as instance:
        result = outcome(small, instance)
    assert not result.success
    [failure] = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert "bronze_binance_trades" in failure.event_specific_data.error.message
    assert len(lake.table(SILVER).snapshots()) < 20


def test_the_schedule_runs_from_the_start_and_skips_while_one_is_under_way(lake: SmallLake) -> None:
    definitions = build_definitions(Settings(home=lake.home), DAY)
    schedule = definitions.get_repository_def().get_schedule_def("maintain_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(instance=instance)
        first = schedule.evaluate_tick(context)
        assert len(first.run_requests or []) == 1
        instance.create_run_for_job(definitions.resolve_job_def(shell.JOB), status=dg.DagsterRunStatus.STARTED)
        second = schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
    assert second.run_requests == []
    assert "is started" in (second.skip_message or "")


def test_no_drain_waits_for_maintenance(lake: SmallLake) -> None:
    repository = build_definitions(Settings(home=lake.home), DAY).get_repository_def()
    maintain_tags, drain_tags = (repository.get_job(name).tags for name in (shell.JOB, "main_drain"))
    assert maintain_tags["k2/queue"] == "maintain"
    assert "dagster/max_runtime" in maintain_tags
    assert "k2/queue" not in drain_tags
    assert int(drain_tags["dagster/priority"]) > int(maintain_tags.get("dagster/priority", 0))


def test_the_command_says_what_it_did_in_plain_lines(
    small: Settings, lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.home))
    monkeypatch.setenv("K2_MAINTENANCE__COMPACT_AFTER_S", "0")
    answer = CliRunner().invoke(maintain, [SILVER.name])
    assert answer.exit_code == 0
    assert answer.output.startswith(f"{SILVER.name}: snapshots ")
    assert "20 files joined into 1" in answer.output
    assert len(answer.output.splitlines()) == 1
    refused = CliRunner().invoke(maintain, ["no_table"])
    assert refused.exit_code == 2
    assert SILVER.name in refused.output
