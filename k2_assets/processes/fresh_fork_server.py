"""Loaded by a fork server that multiprocessing starts afresh when the one before was killed, and by nothing else."""

from k2_assets.processes.fork_server import outlive_the_code_server

outlive_the_code_server()
