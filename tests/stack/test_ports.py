"""A platform beside another: it takes ports that nobody holds, and nothing of the other."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.settings import Catalog, Kafka, Ports, Registry, Settings, load_settings
from k2_stack import demo, ports


def numbers(of: Ports) -> set[int]:
    return {port for _, port in of}


def test_free_ports_are_taken_as_they_are(free_ports: Callable[[], Ports]) -> None:
    wanted = free_ports()
    assert ports.free_beside(wanted) == wanted


@pytest.mark.parametrize("held", ["dagster", "api", "kafka_controller"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104  # as another program may listen
def test_others_are_found_when_one_is_held(free_ports: Callable[[], Ports], held: str, address: str) -> None:
    wanted = free_ports()
    with socket.create_server((address, dict(wanted)[held])):
        found = ports.free_beside(wanted)
    assert numbers(found).isdisjoint(numbers(wanted))
    assert len(numbers(found)) == len(numbers(wanted))
    assert all(ports.is_free(port, ports.LOOPBACK) for port in numbers(found))


def test_the_demo_shares_nothing_with_the_platform_beside_it(
    tmp_path: Path, free_ports: Callable[[], Ports], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Settings(
        home=tmp_path / "mine",
        ports=free_ports(),
        kafka=Kafka(bootstrap_servers="kafka:9092", topic_partitions=2),
        registry=Registry(url="http://registry"),
        catalog=Catalog(uri="postgresql+psycopg2://lake/k2", warehouse="s3://lake", namespace="other"),
    )

    made = demo.beside(own)

    assert (made.home, made.ports, made.catalog) == (tmp_path / "mine-demo", own.ports, Catalog())
    assert made.bootstrap_servers == f"127.0.0.1:{own.ports.kafka}"
    assert made.registry_url.startswith(f"http://127.0.0.1:{own.ports.registry}/")
    assert made.kafka.topic_partitions == 2
    for name, value in {
        "K2_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
        "K2_REGISTRY": '{"url": "http://registry"}',
        "K2_CATALOG": '{"uri": "postgresql+psycopg2://lake/k2"}',
        "K2_CATALOG__WAREHOUSE": "s3://lake",
        **dict.fromkeys(demo.SHARED, ""),  # as the demo's supervisor finds them
    }.items():
        monkeypatch.setenv(name, value)
    found = load_settings()
    assert (found.kafka.bootstrap_servers, found.registry.url, found.catalog) == (None, None, Catalog())
