"""Why a kept run waits, in one sentence that a person can act on, whichever library worded the error."""

import sqlite3

from confluent_kafka import KafkaException
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from k2_core import disk_space
from k2_core.settings import Settings


def sentence(error: Exception, settings: Settings) -> str:
    """Return what is wrong and what to do; an error of K2 says so itself."""
    if disk_space.says_full(error):
        return _full(settings)
    if isinstance(error, SQLAlchemyError | sqlite3.Error):
        return _catalog(error, settings)
    if isinstance(error, KafkaException):
        return f"Kafka at {settings.bootstrap_servers} does not answer ({error.args[0].str()}): see that it runs"
    return " ".join(str(error).split()) or type(error).__name__


def slow_commit(seconds: float, settings: Settings) -> str:
    """Return what is known of a commit that has not ended yet."""
    return (
        f"a commit has been under way for {seconds:.0f} s: another program may hold the catalog {_place(settings)}, "
        "or the machine is very busy"
    )


def _full(settings: Settings) -> str:
    full = [disk.sentence() for disk in disk_space.low_disks(settings)]
    if full:
        return "; ".join(full)
    places = " or ".join(str(folder) for folder in disk_space.folders(settings))
    return f"a disk under {places} was full a moment ago: free some space, K2 goes on by itself"


def _catalog(error: SQLAlchemyError | sqlite3.Error, settings: Settings) -> str:
    where = _place(settings)
    said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
    if "locked" in said:
        return f"the catalog {where} is locked ({said}): another program holds it, end that one or wait"
    return f"the catalog {where} does not answer ({said}): see that it is there and can be written"


def _place(settings: Settings) -> str:
    return make_url(settings.catalog_uri).set(query={}).render_as_string(hide_password=True)
