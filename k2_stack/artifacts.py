"""The Java artifacts of artifacts.lock: fetched through jgo, and used only if their SHA-256 is the locked one."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

from k2_core.errors import DownloadError

_AT_ONCE: Final = 6
_READ_TIMEOUT_S: Final = 30


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository, and the only content that is accepted for it."""

    group: str
    name: str
    version: str
    packaging: str
    classifier: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in a Maven repository: ``kafka-clients-4.4.0.jar``."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"


Download = Callable[[Artifact, Path], Path]
Report = Callable[[str], None]


def locked() -> list[Artifact]:
    """Return the artifacts of the lock."""
    text = resources.files("k2_stack").joinpath("artifacts.lock").read_text(encoding="utf-8")
    return [parse(line) for line in text.splitlines() if line and not line.startswith("#")]


def parse(line: str) -> Artifact:
    """Read a line of the lock.

    >>> parse("org.yaml:snakeyaml:2.5 00ff").file_name
    'snakeyaml-2.5.jar'
    >>> parse("io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all 00ff").file_name
    'apicurio-registry-app-3.3.3-all.tar.gz'
    """
    coordinates, sha256 = line.split()
    group, name, version, packaging, classifier = (*coordinates.split(":"), "jar", "")[:5]
    return Artifact(group, name, version, packaging, classifier, sha256)


def download_with_jgo(artifact: Artifact, folder: Path) -> Path:
    """Fetch one artifact into ``folder``, without its dependencies: the lock names these too.

    Raises:
        DownloadError: no answer, or no such artifact.
    """
    import requests  # noqa: PLC0415  # both are slow to import, and needed at the first start only
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    context = MavenContext(repo_cache=folder, local_repos=[], resolver=PythonResolver(), timeout=_READ_TIMEOUT_S)
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        return component.artifact(classifier=artifact.classifier, packaging=artifact.packaging).resolve()
    except (requests.RequestException, OSError) as error:
        msg = (
            f"{artifact.file_name} could not be fetched ({type(error).__name__}): connect this machine to the "
            "internet and start again; what has been fetched is kept, and later starts need no network."
        )
        raise DownloadError(msg) from error
    except RuntimeError as error:
        msg = f"{artifact.file_name} is not in the Maven repository that this machine reaches: {error}."
        raise DownloadError(msg) from error


def fetch(
    artifacts: Iterable[Artifact],
    folder: Path,
    *,
    download: Download = download_with_jgo,
    report: Report = lambda _: None,
) -> list[Path]:
    """Return the artifacts' paths under ``folder``, every one verified now; fetch those that are missing.

    Raises:
        DownloadError: one could not be fetched or is not what the lock says; the others are kept.
    """
    wanted = list(artifacts)
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for artifact in wanted:
        path = folder / artifact.file_name
        if not path.is_file():
            missing.append(artifact)
        elif sha256_of(path) != artifact.sha256:
            path.unlink(missing_ok=True)
            missing.append(artifact)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        work = pool.map(partial(_fetch_one, folder=folder, download=download), missing)
        try:
            for count, path in enumerate(work, 1):
                report(f"{count} of {len(missing)} files: {path.name}")
        except DownloadError:
            pool.shutdown(cancel_futures=True)
            raise
    return [folder / artifact.file_name for artifact in wanted]


def _fetch_one(artifact: Artifact, folder: Path, download: Download) -> Path:
    """Fetch into a temporary folder, and move the file once it is verified: no other process sees half a file."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as staging:
        path = download(artifact, Path(staging))
        found = sha256_of(path)
        if found != artifact.sha256:
            msg = (
                f"{artifact.file_name} does not match its locked SHA-256 (expected {artifact.sha256[:12]}…, got "
                f"{found[:12]}…) and was removed: start again, and if it happens twice, do not trust this network."
            )
            raise DownloadError(msg)
        return path.replace(folder / artifact.file_name)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked(artifact: Artifact, folder: Path, *, download: Download = download_with_jgo) -> Path:
    """Return the folder that holds the content of a ``tar.gz`` artifact; fetch and unpack it if it is missing.

    The folder is named after the archive's hash, and appears whole or not at all; then the archive is removed. Several
    processes may do this at the same time.
    """
    target = folder / f"{artifact.name}-{artifact.version}-{artifact.sha256[:16]}"
    if target.is_dir():
        return target
    (archive,) = fetch([artifact], folder, download=download)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as staging:
        content = Path(staging) / "content"
        try:
            with tarfile.open(archive) as tar:
                if hasattr(tarfile, "data_filter"):  # Debian's Python 3.11.2 has none; the archive is verified anyway
                    tar.extraction_filter = tarfile.data_filter
                tar.extractall(content)  # noqa: S202  # its SHA-256 is the locked one
            os.rename(content, target)  # noqa: PTH104  # fails on a folder that is not empty; Path.replace need not
        except OSError:
            # If the folder is there, another process was first: it moved the same content and removed the archive.
            if not target.is_dir():
                raise
    archive.unlink(missing_ok=True)
    return target
