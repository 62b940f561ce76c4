"""Loaded by the process from which runs are forked, and by no other: it lives as long as they do.

``k2 down`` asks every process to end. If this one did, the code server would think that its runs are gone, and call
them failed, while they still finish what they have begun. It ends by itself, after the code server and the last run.
"""

import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
