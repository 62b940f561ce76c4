"""Wait for what a fault does, and measure how long that took."""

import time
from collections.abc import Callable

PATIENCE_S = 600


def wait_until(holds: Callable[[], object], state: Callable[[], object], every_s: float = 0.05) -> float:
    """Wait until something holds and return how many seconds that took; the state is shown when patience ends."""
    began = time.monotonic()  # noqa: TID251
    while not holds():
        waited_s = time.monotonic() - began  # noqa: TID251
        assert waited_s < PATIENCE_S, f"never became true: {state()}"
        time.sleep(every_s)
    return time.monotonic() - began  # noqa: TID251
