"""Why a kept run waits, in one sentence that a person can act on, whichever library raised the error."""

import sqlite3

from confluent_kafka import KafkaException
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from k2_core import disk_space
from k2_core.settings import Settings


def sentence(error: Exception, settings: Settings) -> str:
    """Return what is wrong and what to do; an error of K2 is such a sentence already."""
    if disk_space.says_full(error):
        full = [disk.sentence() for disk in disk_space.low_disks(settings)]
        places = " or ".join(str(folder) for folder in disk_space.folders(settings))
        a_moment_ago = f"a disk under {places} was full a moment ago: free some space, K2 goes on by itself"
        return "; ".join(full) or a_moment_ago
    if isinstance(error, SQLAlchemyError | sqlite3.Error):
        catalog = f"the catalog {_place(settings)}"
        reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        if "locked" in reason:
            return f"{catalog} is locked ({reason}): another program holds it, end that one or wait"
        return f"{catalog} does not answer ({reason}): see that it is there and can be written"
    if isinstance(error, KafkaException):
        return f"Kafka at {settings.bootstrap_servers} does not answer ({error.args[0].str()}): see that it runs"
    return " ".join(str(error).split()) or type(error).__name__


def slow_commit(seconds: float, settings: Settings) -> str:
    """Return what is known of a commit that takes long."""
    return (
        f"a commit has been under way for {seconds:.0f} s: another program may hold the catalog {_place(settings)}, "
        "or the machine is very busy"
    )


def _place(settings: Settings) -> str:
    return make_url(settings.catalog_uri).set(query={}).render_as_string(hide_password=True)
