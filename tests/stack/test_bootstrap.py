import subprocess
import sys
from pathlib import Path

import pytest

from k2_stack import bootstrap
from k2_stack.bootstrap import CannotInstall

ROOT = Path(__file__).parents[2]


def run_bootstrap(folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Run the bootstrap with its .venv elsewhere, by a Python that ``before`` has changed."""
    program = (
        f"import sys, pathlib; {before}; from k2_stack import bootstrap as b; b.VENV = pathlib.Path({str(folder)!r})"
        "; b.PYTHON = b.VENV / 'bin' / 'python'; b.STAMP = b.VENV / 'stamp'"
        "; b.OUTPUT = b.VENV / 'out'; sys.exit(b.main())"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_install_names_the_apt_line_when_venv_is_missing(tmp_path: Path) -> None:
    done = run_bootstrap(tmp_path / "venv", "sys.modules['ensurepip'] = None")

    assert done.returncode == 1
    assert done.stderr == (
        "k2: Python's venv is missing: run `sudo apt install python3-venv`, and then the same command again.\n"
    )
    assert not (tmp_path / "venv").exists()


def test_install_says_so_when_python_is_too_old(tmp_path: Path) -> None:
    done = run_bootstrap(tmp_path / "venv", "sys.version_info = (3, 9, 2)")

    assert done.returncode == 1
    assert done.stderr.startswith("k2: Python 3.11 or newer is needed, and ")
    assert len(done.stderr.splitlines()) == 1


def test_install_does_nothing_when_the_stamp_is_this_lock(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "stamp").write_text(bootstrap.fingerprint())

    done = run_bootstrap(tmp_path, "sys.modules['subprocess'] = __import__('subprocess')")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("said", "hint"),
    [("Failed to fetch", "connect this machine"), ("Hash mismatch for `x`", "not what the lock says")],
)
def test_step_keeps_what_a_tool_said_when_it_fails(
    said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "OUTPUT", tmp_path / "said")

    with pytest.raises(CannotInstall, match=hint):
        bootstrap.step("fetching", [sys.executable, "-c", f"raise SystemExit({said!r})"], "connect this machine")

    assert (tmp_path / "said").read_text().strip() == said


def test_lock_pins_uv_with_hashes_when_it_is_asked_for() -> None:
    lines = bootstrap.locked_lines("uv").splitlines()

    assert lines[0].startswith("uv==")
    assert all("--hash=sha256:" in line or line.lstrip().startswith("#") for line in lines[1:] if line.strip())
