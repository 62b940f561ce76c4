"""The whole platform on small disks that fill up: said in one sentence, waited for, and made good with space again."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2_core.settings import Ports
from tests.reliability.measured import Faults
from tests.reliability.waiting import wait_until
from tests.reliability.whole import WholePlatform, a_whole_platform, compare_with_kafka

pytestmark = [
    pytest.mark.integration,
    pytest.mark.reliability("disk"),
    pytest.mark.drawn("platforms"),
]

HOME_MB, WAREHOUSE_MB = 400, 64


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a disk in memory; a test without the right to do so fails in CI and is skipped elsewhere."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        missing = f"a small disk cannot be mounted, which needs root: {mounted.stderr.strip()}"
        if os.environ.get("CI"):  # noqa: TID251  # a test's own setting
            pytest.fail(missing)
        pytest.skip(missing)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with (
        small_disk(tmp_path / "home", HOME_MB) as home,
        small_disk(tmp_path / "warehouse", WAREHOUSE_MB) as warehouse,
    ):
        yield home, warehouse


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk to its last byte."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
    except OSError:
        pass  # that is the point
    try:
        yield
    finally:
        ballast.unlink()


def silver_rows(platform: WholePlatform) -> int:
    return int(platform.status()["tables"]["silver_binance_trades"])


def message(platform: WholePlatform) -> str:
    return str(platform.status().get("message"))


def part(platform: WholePlatform, name: str) -> str:
    (found,) = (part for part in platform.status()["parts"] if part["name"] == name)
    return f"{found['state']}: {found['message']}"


def goes_on(platform: WholePlatform) -> float:
    """Wait until every part is ready, nothing is wrong, and more arrives in silver; return how long that took."""
    before = silver_rows(platform)

    def holds() -> bool:
        now = platform.status()
        arrived = now["tables"]["silver_binance_trades"] > before
        return now["ready"] and "message" not in now and arrived and part(platform, "drain").startswith("ready")

    return wait_until(holds, platform.status, every_s=1)


def test_a_platform_on_full_disks_waits_and_goes_on_by_itself(
    disks: tuple[Path, Path], free_ports: Callable[[], Ports], reliability: Faults, soak: bool
) -> None:
    home, warehouse = disks
    platform = a_whole_platform(home, free_ports(), K2_CATALOG__WAREHOUSE=f"file://{warehouse}")
    with platform.up("--source", "simulator", "--rate", "100"):
        goes_on(platform)
        times: dict[str, list[tuple[float, float]]] = {}
        for _ in range(3 if soak else 1):
            with full(warehouse):
                noticed_s = wait_until(
                    lambda: f"the disk of {warehouse} is full" in part(platform, "drain"), platform.status, every_s=0.5
                )
                assert f"the disk of {warehouse} is full: 0 MB free; free some space" in message(platform)
            times.setdefault("warehouse's disk full", []).append((noticed_s, goes_on(platform)))
            with full(home):
                noticed_s = wait_until(
                    lambda: not platform.status()["ready"] and f"the disk of {home} is full" in message(platform),
                    platform.status,
                    every_s=0.5,
                )
                wait_until(lambda: part(platform, "broker").startswith("restarting"), platform.status, every_s=0.5)
            times.setdefault("whole home's disk full", []).append((noticed_s, goes_on(platform)))
        platform.stop_venue()
        platform.await_drained()
        found = compare_with_kafka(platform)
        platform.let_venue_go_on()
    for fault, each in times.items():
        for noticed_s, recovered_s in each:
            reliability.record(fault, noticed_s=noticed_s, recovered_s=recovered_s)
        reliability.record(fault, injected=0, compared=found.rows, lost=found.lost, doubled=found.doubled)
    assert (found.lost, found.doubled) == (0, 0)
