"""Install the locked environment into ``.venv``: ``python3 -m k2_stack.bootstrap``, with any Python that a system has.

Only the standard library is there when this runs. The Python may be older than K2 needs, from 3.6 on: this file
must still run there, so that the user reads a sentence and no traceback.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".k2-installed"
OUTPUT = ROOT / ".k2-install.log"


class CannotInstall(Exception):
    """Its text is one sentence that names what to do."""


def main() -> int:
    """Install what the lock names; do nothing when ``.venv`` holds it already."""
    try:
        # The stamp holds what was installed: the lock, with which Python, in which folder.
        if not (PYTHON.exists() and STAMP.is_file() and STAMP.read_text() == fingerprint()):
            require_python()
            install()
    except CannotInstall as error:
        sys.stderr.write(f"k2: {error}\n")
        return 1
    return 0


def fingerprint() -> str:
    """Return a hash of everything that an installation depends on."""
    # The folder too: scripts in .venv/bin name it in their first line, so that a moved .venv does not run.
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest() + "\n"


def require_python() -> None:
    """Check that this Python is new enough and can make a virtual environment with pip.

    Raises:
        CannotInstall: with the line that installs what is missing.
    """
    if sys.version_info < OLDEST:
        msg = "Python 3.11 or newer is needed, and {} is {}: run `make PYTHON=python3.11 …` with a newer one.".format(  # noqa: UP032
            sys.executable, sys.version.split()[0]
        )
        raise CannotInstall(msg)
    try:
        import ensurepip  # noqa: F401, PLC0415  # Debian and Ubuntu ship it apart
        import venv  # noqa: F401, PLC0415
    except ImportError:
        msg = "Python's venv is missing: run `sudo apt install python3-venv`, and then the same command again."
        raise CannotInstall(msg) from None


def install() -> None:
    """Make ``.venv``, get uv, and install exactly what the lock names, and the project itself.

    Raises:
        CannotInstall: one of these steps failed.
    """
    # The stamp is removed first and written last: an installation that was interrupted is done again.
    STAMP.unlink() if STAMP.exists() else None
    try:  # keep a .venv that runs, with the same version of Python
        ask = [str(PYTHON), "-c", "import sys; print(sys.version)"]
        answer = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=30)
        usable = answer.stdout.decode().strip() == sys.version.strip()
    except OSError:
        usable = False
    if not usable:
        shutil.rmtree(VENV, ignore_errors=True)
        step("making .venv", [sys.executable, "-m", "venv", str(VENV)])
    uv = find_uv()
    network = "connect this machine to the internet, and run the same command again"
    # Compiled once here, not by each of the dozen processes that `make up` starts at the same moment.
    sync = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(PYTHON), "--require-hashes", str(LOCK)]
    step("installing the locked packages", sync, network)
    project = ["--quiet", "--python", str(PYTHON), "--no-deps", "--no-build-isolation", "--offline", "-e", str(ROOT)]
    step("installing K2 itself", [uv, "pip", "install", *project])
    STAMP.write_text(fingerprint())
    OUTPUT.unlink() if OUTPUT.exists() else None


def find_uv() -> str:
    """Return the path of uv: the system's, or the one of ``.venv``, where pip installs its locked version.

    Raises:
        CannotInstall: it could not be fetched, or is not what the lock says.
    """
    system = shutil.which("uv")
    if system:
        return system
    own = VENV / "bin" / "uv"
    if not own.exists():
        wanted = VENV / "uv.requirements.txt"
        wanted.write_text(locked_lines("uv"))
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        network = "connect this machine to the internet, and run the same command again"
        step("fetching uv", [*pip, "--require-hashes", "-r", str(wanted)], network)
    return str(own)


def locked_lines(package: str) -> str:
    """Return the lines of the lock that pin one package: its version and its hashes."""
    found = re.search(rf"^{re.escape(package)}==.*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        msg = f"{LOCK.name} does not name {package}: restore that file from the repository."
        raise CannotInstall(msg)
    return found.group()


def step(what: str, command: list[str], hint: str = "that file holds its output") -> None:
    """Run a command, and show how long it takes.

    Raises:
        CannotInstall: it failed; its output is kept in a file that the sentence names.
    """
    # A thread counts the seconds, since the command's output is collected and not shown.
    done = threading.Event()
    shown = threading.Thread(target=_show, args=(what, done), daemon=True)
    shown.start()
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    done.set()
    shown.join()
    if answer.returncode:
        OUTPUT.write_bytes(answer.stdout)
        if b"hash" in answer.stdout.lower():
            hint = "a package is not what the lock says; if it happens twice, do not trust this network"
        msg = f"{what} failed ({OUTPUT}): {hint}."
        raise CannotInstall(msg)


def _show(what: str, done: threading.Event) -> None:
    tenths = 0
    terminal = sys.stdout.isatty()
    while not done.wait(0.1):
        tenths += 1
        if terminal:
            sys.stdout.write(f"\r{what} … {tenths // 10} s ")
            sys.stdout.flush()
    sys.stdout.write(f"{chr(13) if terminal else ''}{what}: {tenths / 10:.1f} s{' ' * 4}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
