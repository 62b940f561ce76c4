"""What a drain says that it waits for."""

import errno
import sqlite3
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from sqlalchemy.exc import OperationalError

from k2_assets.orchestration import wait_reasons
from k2_core.errors import RegistryError
from k2_core.settings import Catalog, Kafka, Settings

HOME = Path("/data/k2")


def an_error_of_sqlite(text: str) -> OperationalError:
    return OperationalError("UPDATE iceberg_tables SET a=?\nWHERE b=?", (1, 2), sqlite3.OperationalError(text))


@pytest.mark.parametrize(
    "error", [an_error_of_sqlite("database is locked"), sqlite3.OperationalError("database is locked")]
)
def test_a_locked_catalog_names_the_file_and_what_to_do(error: Exception) -> None:
    assert wait_reasons.sentence(error, Settings(home=HOME)) == (
        "the catalog sqlite:////data/k2/catalog.db is locked (database is locked): "
        "another program holds it, end that one or wait"
    )


def test_a_password_of_the_catalog_is_never_said() -> None:
    settings = Settings(home=HOME, catalog=Catalog(uri="postgresql+psycopg2://k2:secret@db/k2"))

    said = wait_reasons.sentence(an_error_of_sqlite("connection refused"), settings)

    assert "secret" not in said
    assert "db/k2 does not answer (connection refused)" in said


def test_a_disk_that_was_full_names_where_to_look(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), an_error_of_sqlite("database or disk is full")):
        assert str(tmp_path) in wait_reasons.sentence(error, Settings(home=tmp_path))
        assert "free some space" in wait_reasons.sentence(error, Settings(home=tmp_path))


def test_kafka_away_names_its_address() -> None:
    settings = Settings(kafka=Kafka(bootstrap_servers="kafka:9092"))

    said = wait_reasons.sentence(KafkaException(KafkaError(KafkaError._TRANSPORT)), settings)

    assert said.startswith("Kafka at kafka:9092 does not answer (")


def test_an_error_of_k2_speaks_for_itself_on_one_line() -> None:
    assert wait_reasons.sentence(RegistryError("the registry\n is away"), Settings()) == "the registry is away"
