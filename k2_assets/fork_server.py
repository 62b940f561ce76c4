"""Loaded by the process from which runs are forked, and by no other: it lives as long as they do.

``k2 down`` asks every process to end. If this one did, the code server would think that its runs are gone, and call
them failed, while they still finish what they have begun. It ends by itself, after the code server and the last run.

What it has loaded is frozen before each fork. A collection of garbage writes into every object that it looks at, and
each run would soon have a copy of nearly all pages that it could share.
"""

import gc
import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(before=gc.freeze)
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
