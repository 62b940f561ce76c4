import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k2_assets.lake.table_lock import lock
from k2_core.errors import LockBusy
from tests.assets.lakes import SmallLake

HOLD = """
import os, signal, sys
from k2_assets.lake.table_lock import lock
from k2_core.lake.catalog import open_catalog
from k2_core.settings import Settings

with lock(open_catalog(Settings(home=sys.argv[1])), "files:a", 5):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_is_held_by_one_and_given_back(lake: SmallLake) -> None:
    with lock(lake.catalog, "files:a", 1) as lease:
        lease.check()
        with pytest.raises(LockBusy, match="files:a"), lock(lake.catalog, "files:a", 0.2):
            pytest.fail("two hold one lock")
        with lock(lake.catalog, "files:b", 1):
            pass
    with lock(lake.catalog, "files:a", 1):
        pass


def test_one_that_waits_gets_the_lock_when_it_is_free(lake: SmallLake) -> None:
    order: list[str] = []
    held = threading.Event()

    def other() -> None:
        held.wait()
        with lock(lake.catalog, "files:a", 30):
            order.append("second")

    thread = threading.Thread(target=other)
    thread.start()
    with lock(lake.catalog, "files:a", 1):
        held.set()
        threading.Event().wait(0.5)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]


def test_a_dead_holders_lock_is_taken_over_at_once(lake: SmallLake, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(lake.home)]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == -9

    with lock(lake.catalog, "files:a", 0) as lease:
        lease.check()
