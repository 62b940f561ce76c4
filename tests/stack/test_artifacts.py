import hashlib
import re
import tarfile
from pathlib import Path

import pytest

from k2_core.errors import DownloadError
from k2_stack import artifacts, java
from k2_stack.artifacts import Artifact

CONTENT = b"the locked content"


def an_artifact(content: bytes = CONTENT, packaging: str = "jar") -> Artifact:
    return Artifact("org.example", "thing", "1.0", packaging, "", hashlib.sha256(content).hexdigest())


def giving(content: bytes) -> artifacts.Download:
    def download(artifact: Artifact, folder: Path) -> Path:
        path = folder / artifact.file_name
        path.write_bytes(content)
        return path

    return download


def no_network(artifact: Artifact, folder: Path) -> Path:
    raise AssertionError("nothing may be fetched")


def test_lock_names_kafka_and_the_registry_when_it_is_read() -> None:
    assert len(java.jars()) == 44
    assert java.registry_archive().file_name == "apicurio-registry-app-3.3.3-all.tar.gz"
    assert all(re.fullmatch("[0-9a-f]{64}", artifact.sha256) for artifact in artifacts.locked())


def test_fetch_refuses_and_removes_when_the_hash_differs(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"thing-1\.0\.jar does not match its locked SHA-256") as error:
        artifacts.fetch([an_artifact()], tmp_path, download=giving(b"something else"))

    assert list(tmp_path.iterdir()) == []
    assert str(error.value).count(".") == str(error.value).count("1.0.jar") * 2 + 1


def test_fetch_keeps_the_good_when_one_is_bad(tmp_path: Path) -> None:
    good, bad = an_artifact(), Artifact("org.example", "bad", "1.0", "jar", "", "0" * 64)

    with pytest.raises(DownloadError):
        artifacts.fetch([good, bad], tmp_path, download=giving(CONTENT))

    assert [path.name for path in tmp_path.iterdir()] == [good.file_name]


def test_fetch_needs_no_network_when_everything_is_cached(tmp_path: Path) -> None:
    artifacts.fetch([an_artifact()], tmp_path, download=giving(CONTENT))

    (path,) = artifacts.fetch([an_artifact()], tmp_path, download=no_network)

    assert path.read_bytes() == CONTENT


def test_fetch_replaces_when_the_cached_file_was_changed(tmp_path: Path) -> None:
    (path,) = artifacts.fetch([an_artifact()], tmp_path, download=giving(CONTENT))
    path.write_bytes(b"half a fi")

    artifacts.fetch([an_artifact()], tmp_path, download=giving(CONTENT))

    assert path.read_bytes() == CONTENT


def test_jgo_says_what_to_do_when_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")

    with pytest.raises(DownloadError, match="connect this machine to the internet"):
        artifacts.fetch(java.jars()[:1], tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_unpacked_appears_whole_when_fetched_once(tmp_path: Path) -> None:
    source = tmp_path / "source" / "lib"
    source.mkdir(parents=True)
    (source / "a.jar").write_bytes(CONTENT)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(source, "lib")
    archive = (tmp_path / "a.tar.gz").read_bytes()
    artifact, cache = an_artifact(archive, "tar.gz"), tmp_path / "cache"

    first = artifacts.unpacked(artifact, cache, download=giving(archive))
    again = artifacts.unpacked(artifact, cache, download=no_network)

    assert first == again
    assert (first / "lib" / "a.jar").read_bytes() == CONTENT
    assert list(cache.iterdir()) == [first]
