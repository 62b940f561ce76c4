"""What Dagster starts again by our dagster.yaml: what did not start or was killed, nothing that failed by itself."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import JobFailureData, RunFailureReason

from k2_assets.drain.drain_job import drain_job
from k2_assets.maintenance.maintain_job import maintain_job
from k2_assets.orchestration.run_tags import REBUILD_TAGS
from k2_assets.reference.assets import register_job
from k2_core.settings import Settings
from k2_core.venues import binance
from k2_stack import parts
from k2_stack.dagster_graphql import MARKED_FAILED, MAX_RETRIES
from k2_stack.trade_sources import Source

CONFIG = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture(name="instance", scope="module")
def a_dagster_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home = tmp_path_factory.mktemp("dagster")
    shutil.copyfile(CONFIG, home / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@dg.op
def work() -> None: ...


@dg.op
def fail() -> None:
    raise ValueError("by itself")


@dg.job(executor_def=dg.in_process_executor)
def rebuild() -> None:
    work()


@dg.job(executor_def=dg.in_process_executor)
def broken() -> None:
    fail()


def will_be_started_again(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.FAILURE
    return run.tags["dagster/will_retry"] == "true"


def test_a_run_of_a_backfill_that_was_not_started_or_was_killed_is_started_again(instance: dg.DagsterInstance) -> None:
    tags = {MAX_RETRIES: "2"}  # which `k2 backfill` gives it
    unstarted, late, killed = (instance.create_run_for_job(rebuild, tags=tags) for _ in range(3))
    event = instance.report_run_failed(unstarted)
    instance.report_run_failed(late, "Run timed out.", JobFailureData(None, RunFailureReason.START_TIMEOUT))
    instance.report_run_failed(killed, "Its process is gone.")
    assert all(will_be_started_again(instance, run.run_id) for run in (unstarted, late, killed))
    assert event.message == MARKED_FAILED


def test_a_run_that_failed_by_itself_is_not_started_again(instance: dg.DagsterInstance) -> None:
    done = broken.execute_in_process(instance=instance, raise_on_error=False, tags={MAX_RETRIES: "2"})
    assert not will_be_started_again(instance, done.run_id)


@pytest.mark.parametrize(
    "tags",
    [REBUILD_TAGS, drain_job(Settings(), [binance]).tags, maintain_job().tags, register_job().tags],
    ids=["gold", "drain", "maintenance", "register"],
)
def test_a_run_that_a_sensor_or_schedule_replaces_has_no_other_owner(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    run = instance.create_run_for_job(rebuild, tags=tags)
    instance.report_run_failed(run, "Its process is gone.")
    assert not will_be_started_again(instance, run.run_id)


def test_only_dagsters_monitor_gives_up_on_a_run_that_starts_slowly(tmp_path: Path) -> None:
    """A process that comes up later finds its run over; had only the call timed out, it might work beside another."""
    monitoring = yaml.safe_load(CONFIG.read_text())["run_monitoring"]
    plan = parts.plan(Settings(home=tmp_path), Source())
    patience = {
        part.name: int(part.environment()["DAGSTER_GRPC_TIMEOUT_SECONDS"])
        for part in plan
        if part.name.startswith("dagster-") and not part.is_step
    }
    assert set(patience) == {"dagster-code", "dagster-daemon", "dagster-webserver"}
    assert min(patience.values()) > monitoring["start_timeout_seconds"] + 10 * monitoring["poll_interval_seconds"]
    assert monitoring["start_timeout_seconds"] >= 300
