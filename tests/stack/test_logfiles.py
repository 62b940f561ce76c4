import re
import subprocess
import sys
from pathlib import Path

from k2_stack.logfiles import unstamped

PRINTS = """
import sys
from pathlib import Path
import click
from k2_stack import logfiles
logfiles.stamp_output(Path(sys.argv[1]))
print("one\\ntwo")
print("three", end="")
print(" goes on")
print(file=sys.stderr)
click.echo("k2: it cannot start", err=True)
raise ValueError("the end")
"""


def printed_into(output: Path, log: Path) -> list[str]:
    with output.open("ab") as out:
        subprocess.run([sys.executable, "-c", PRINTS, str(log)], stdout=out, stderr=subprocess.STDOUT, check=False)
    return output.read_text().splitlines()


def test_every_line_of_the_supervisors_log_has_a_time(tmp_path: Path) -> None:
    log = tmp_path / "supervisor.log"

    lines = printed_into(log, log)

    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", line) for line in lines), lines
    assert [unstamped(line) for line in lines][:5] == ["one", "two", "three goes on", "", "k2: it cannot start"]
    assert unstamped(lines[-1]) == "ValueError: the end"


def test_output_that_goes_elsewhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "supervisor.log").touch()

    assert printed_into(tmp_path / "piped", tmp_path / "supervisor.log")[:2] == ["one", "two"]
