"""The steps before parts can start, each in a process of its own: ``python -m k2_stack.prepare STEP``.

They load large libraries (pyiceberg, Dagster), which the supervisor then need not keep in memory for as long as the
platform runs. Users see the last line that a step prints; when it has ended, that is what its function returns.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from k2_core import clock
from k2_core.errors import K2Error, PartError
from k2_core.settings import Settings, load_settings
from k2_stack import artifacts, java, parts


def kafka_files(settings: Settings) -> str:
    """Fetch Kafka's jars, and format the broker's storage the first time."""
    artifacts.fetch(java.jars(), java.artifacts_folder(), report=_print)
    _print("formatting the storage")
    java.prepare_broker(settings)
    return ""


def registry_files(_: Settings) -> str:
    """Fetch and unpack the schema registry."""
    _print(f"fetching {java.registry_archive().file_name}")
    artifacts.unpacked(java.registry_archive(), java.artifacts_folder())
    return ""


def tables(settings: Settings) -> str:
    """Create the catalog and its tables, and set the first day of which Dagster shows a partition.

    Tables of an earlier K2 get the changes that a start may make; the sentence returned names those that they need.
    """
    from k2_assets.lake.first_partition import FirstPartition  # noqa: PLC0415
    from k2_core.lake.catalog import ensure_tables, open_catalog  # noqa: PLC0415  # pyiceberg takes a second to import
    from k2_core.lake.retention_policy import policies  # noqa: PLC0415
    from k2_core.lake.tables import all_tables  # noqa: PLC0415
    from k2_core.venues import VENUES  # noqa: PLC0415

    policies(settings.retention)  # refuses names of no table before anything starts
    catalog, namespace = open_catalog(settings), settings.catalog.namespace
    left = ensure_tables(catalog, namespace, all_tables(tuple(VENUES)))
    FirstPartition(catalog, namespace).settle()
    todo = "; ".join(f"{name}: {change.what}" for name, changes in left.items() for change in changes)
    if not todo:
        return ""
    return f"run `k2 tables migrate --dry-run`, tables of an earlier K2 need changes that a start does not make: {todo}"


def dagster_home(settings: Settings) -> str:
    """Open the Dagster instance once, alone: two processes that open a fresh one together break it for good."""
    from dagster import DagsterInstance  # noqa: PLC0415  # takes two seconds to import

    from k2_assets.orchestration.interruptions import settle_interrupted_runs  # noqa: PLC0415

    home = parts.dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    # At each start, so that an upgrade of K2 brings its own settings of Dagster.
    shutil.copyfile(Path(__file__).parents[1] / "dagster.yaml", home / "dagster.yaml")
    parts.workspace_file(settings).write_text(
        "load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
        f"      port: {settings.ports.dagster_code}\n      location_name: k2\n"
    )
    with DagsterInstance.from_config(str(home)) as instance:
        # Each store is created at its first use: use all of them here.
        instance.get_runs(limit=1)
        instance.get_daemon_statuses()
        settle_interrupted_runs(instance, clock.now_s())
    return ""


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_WORK: Final[dict[str, Callable[[Settings], str]]] = {
    "kafka-files": kafka_files,
    "registry-files": registry_files,
    "tables": tables,
    "dagster-home": dagster_home,
}


def main(step: str) -> int:
    """Run one step and return an exit status; on failure, the last line on standard output is the reason."""
    try:
        _print(_WORK[step](load_settings()))
    except K2Error as error:
        _print(str(error))
        return 1
    except OSError as error:
        _print(str(PartError(f"{step} failed: {error}.")))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
