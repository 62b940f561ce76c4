import signal
from pathlib import Path

import pytest

from k2_stack import deaths
from k2_stack.deaths import Deaths, cause


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
        (1, "exit status 1"),
        (143, "exit status 143, after SIGTERM"),
    ],
)
def test_a_return_code_names_its_cause(code: int, said: str) -> None:
    assert cause(code) == said


def test_a_kill_is_laid_to_the_kernel_when_it_has_killed_for_memory_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "memory.events"
    monkeypatch.setattr(deaths, "_COUNTERS", (tmp_path / "absent", counter))
    counter.write_text("oom 1\noom_kill 3\n")
    died = Deaths()
    died.look()
    assert died.sentence(-signal.SIGKILL) == "it was killed by SIGKILL"

    counter.write_text("oom 2\noom_kill 4\n")
    died.look()  # it was dead by then

    assert (
        died.sentence(-signal.SIGKILL) == "it was killed by SIGKILL, most likely by the kernel's out of memory killer"
    )
    assert died.sentence(1) == "it ended by itself (exit status 1)"
    died.look()
    assert died.sentence(-signal.SIGKILL) == "it was killed by SIGKILL"
