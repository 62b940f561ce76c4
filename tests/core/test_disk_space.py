import errno
from pathlib import Path

import pytest

from k2_core import disk_space
from k2_core.disk_space import Disk
from k2_core.settings import Catalog, Settings

MB = 1_000_000


def a_disk(free_mb: float, total_mb: float = 100_000) -> Disk:
    return Disk(Path("/data"), int(free_mb * MB), int(total_mb * MB))


@pytest.mark.parametrize(
    ("disk", "full", "low"),
    [
        (a_disk(0), True, True),
        (a_disk(1.9), True, True),
        (a_disk(499), False, True),
        (a_disk(501), False, False),
        (a_disk(60, total_mb=1_000), False, False),  # little, and yet more than a twentieth of a small disk
        (a_disk(40, total_mb=1_000), False, True),
    ],
)
def test_a_disk_is_full_or_low(disk: Disk, full: bool, low: bool) -> None:
    assert (disk.is_full, disk.is_low(500)) == (full, low)


def test_a_disk_says_how_full_it_is_and_what_to_do() -> None:
    assert a_disk(12).sentence() == (
        "the disk of /data is almost full: 12 MB free; free some space, K2 goes on by itself"
    )
    assert "is full: 0 MB free" in a_disk(0).sentence()


def test_the_warehouse_is_looked_at_when_it_lies_elsewhere_on_this_machine(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "other disk"
    at = {
        "inside": None,
        "elsewhere": f"file://{elsewhere}",
        "quoted": f"file://{tmp_path}/other%20disk",
        "s3": "s3://b/w",
    }
    found = {name: disk_space.folders(Settings(home=home, catalog=Catalog(warehouse=url))) for name, url in at.items()}

    assert found == {"inside": [home], "elsewhere": [home, elsewhere], "quoted": [home, elsewhere], "s3": [home]}


def test_disks_are_asked_though_their_folders_do_not_exist_yet(tmp_path: Path) -> None:
    (disk,) = disk_space.disks(Settings(home=tmp_path / "not" / "made"))

    assert disk.folder == tmp_path / "not" / "made"
    assert 0 <= disk.free_bytes <= disk.total_bytes


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "whatever it is called here"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (RuntimeError("[Errno 28] Error writing bytes to file. Detail: No space left on device"), True),
        (OSError(errno.ENOENT, "no such file"), False),
        (RuntimeError("database is locked"), False),
    ],
)
def test_a_full_disk_is_distinguished_from_other_errors_whoever_words_it(error: Exception, full: bool) -> None:
    assert disk_space.says_full(error) is full
