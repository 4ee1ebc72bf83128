"""Fetch: every file a lock names, into a cache keyed by sha256.

A file enters the cache only when its checksum is right (it is written under a temporary
name and renamed), so what is in the cache can be used without a look at the network.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import requests
from urllib3.exceptions import HTTPError

from builder import index, log
from builder.errors import FetchError
from builder.model import Artifact, Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypi_simple import DistributionPackage

    from builder.model import Distribution

TARBALL_SITE = "https://tarballs.opendev.org/openstack"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ATTEMPTS = 4
PASSING = frozenset({408, 429})  # of the 4xx, those that a later try may not meet
T = TypeVar("T")
CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch; `places` are asked in turn (see `plan`)."""

    distribution: str
    version: str
    artifact: Artifact
    service: bool


def wanted(distributions: Iterable[Distribution]) -> list[Wanted]:
    """Return the one file of each distribution a build needs: the first of its artifacts."""
    return [Wanted(d.name, d.version, d.artifacts[0], d.kind == "service") for d in distributions]


def cached(cache: Path, artifact: Artifact) -> Path:
    """Return where `artifact` is kept: by checksum, with its own name (tools read it)."""
    return cache / artifact.sha256[:2] / artifact.sha256 / artifact.file


def missing(files: Iterable[Wanted], cache: Path) -> list[Wanted]:
    """Return what is not in the cache."""
    return [w for w in files if not cached(cache, w.artifact).exists()]


def fetch(
    files: Sequence[Wanted],
    cache: Path,
    *,
    tarballs: str | None = None,
    offline: bool = False,
    jobs: int = 8,
    quiet: bool = False,
) -> tuple[Fetched, FetchError | None]:
    """Bring every file into the cache, in parallel, and return where each is.

    A service's tarball is looked for in `tarballs` (a directory or URL), the package index,
    then upstream's tarball site; all else on the index. What is not to be had is missing
    from the answer, and the error beside it names each such file and what was tried for it.
    """
    absent = missing(files, cache)
    failure = None
    if absent and offline:
        failure = FetchError(
            f"{len(absent)} files are not in the cache and --offline forbids to fetch them",
            details=[f"{w.artifact.file} (sha256 {w.artifact.sha256})" for w in absent],
            hint="run once without --offline",
        )
    elif absent:
        failure = _fetch_all(absent, cache, tarballs, jobs, quiet=quiet)
    places = {w.artifact.sha256: cached(cache, w.artifact) for w in files}
    return Fetched({s: p for s, p in places.items() if failure is None or p.exists()}), failure


def _fetch_all(
    absent: Sequence[Wanted], cache: Path, tarballs: str | None, jobs: int, *, quiet: bool
) -> FetchError | None:
    client = Client()
    problems: list[str] = []
    with log.step("fetch", 0 if quiet else len(absent)) as step, ThreadPoolExecutor(jobs) as pool:

        def one(item: Wanted) -> None:
            tried = []
            for name, place in _places(item, client, tarballs):
                try:
                    place(cached(cache, item.artifact))
                except _UnavailableError as error:
                    tried.append(f"{name}: {error}")
                else:
                    step.advance(item.artifact.file)
                    return
            problems.append(f"{item.artifact.file}: {'; '.join(tried)}")

        for future in [pool.submit(one, item) for item in absent]:
            future.result()
    if problems:
        return FetchError(
            f"{len(problems)} of {len(absent)} files are not to be had",
            details=sorted(problems),
            hint="check the network and the package index settings (UV_DEFAULT_INDEX, "
            "PIP_INDEX_URL, pip.conf), or give service tarballs with --tarballs DIR|URL",
        )
    return None


class _UnavailableError(Exception):
    """A place does not have a file, or has another."""


class Client:
    """HTTP and the package index, shared by the threads of one run."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._pages: dict[str, list[DistributionPackage]] = {}

    @property
    def session(self) -> requests.Session:
        """The thread's own session (requests' are not thread-safe)."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            if SYSTEM_CERTIFICATES.exists():  # an operator's own authority is known there
                self._local.session.verify = str(SYSTEM_CERTIFICATES)
        session: requests.Session = self._local.session
        return session

    def packages(self, distribution: str) -> list[DistributionPackage]:
        """Return what the package index has of a distribution (PEP 503 and 691)."""
        # imported here: it is slow to import and a run with a warm cache needs none of it
        from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple  # noqa: PLC0415

        if distribution not in self._pages:
            endpoint = index.index_url() or PYPI_SIMPLE_ENDPOINT
            simple = PyPISimple(endpoint, session=self.session)
            try:
                page = retried(partial(simple.get_project_page, distribution, timeout=TIMEOUT))
            except NoSuchProjectError as error:
                raise _UnavailableError(f"no project {distribution}") from error
            except requests.RequestException as error:
                raise _UnavailableError(_short(error)) from error
            self._pages[distribution] = page.packages
        return self._pages[distribution]

    def index_url(self, item: Wanted) -> str:
        """Return the URL of a file on the package index."""
        for package in self.packages(item.distribution):
            if package.filename == item.artifact.file:
                return package.url
        raise _UnavailableError("no such file there")

    def files(self, distribution: str) -> dict[str, list[Artifact]]:
        """Return what the index has of a distribution, by version; nothing if it has no such.

        Raises FetchError when it does not answer, or gives no sha256.
        """
        found: dict[str, list[Artifact]] = {}
        try:
            packages = self.packages(distribution)
        except _UnavailableError as error:
            if str(error).startswith("no project"):
                return found
            raise FetchError(f"{distribution}: the package index: {error}") from error
        for package in packages:
            digest = package.digests.get("sha256")
            if package.version and digest:
                row = Artifact(package.filename, digest, package.size or 0)
                found.setdefault(package.version, []).append(row)
        return found

    def download(self, url: str, artifact: Artifact, destination: Path) -> None:
        """Download `url` to `destination` if its bytes are those of `artifact`."""
        try:
            retried(partial(self._stream, url, artifact, destination))
        except (requests.RequestException, DamagedError) as error:
            raise _UnavailableError(_short(error)) from error

    def _stream(self, url: str, artifact: Artifact, destination: Path) -> None:
        # Some servers label a .tar.gz as an encoding: its bytes are wanted as they are.
        plain = {"Accept-Encoding": "identity"}
        with self.session.get(url, stream=True, timeout=TIMEOUT, headers=plain) as answer:
            answer.raise_for_status()
            try:
                _keep(answer.raw.stream(CHUNK, decode_content=False), artifact, destination)
            except HTTPError as error:
                raise DamagedError(f"the download broke off: {error}") from error


def _places(
    item: Wanted, client: Client, tarballs: str | None
) -> list[tuple[str, Callable[[Path], None]]]:
    """Return the places to ask for `item`, each a name and a function that fetches to a path."""

    def from_index(destination: Path) -> None:
        client.download(client.index_url(item), item.artifact, destination)

    def from_url(base: str, destination: Path) -> None:
        client.download(f"{base.rstrip('/')}/{item.artifact.file}", item.artifact, destination)

    def from_directory(directory: Path, destination: Path) -> None:
        source = directory / item.artifact.file
        if not source.is_file():
            raise _UnavailableError("no such file")
        with source.open("rb") as stream:
            try:
                _keep(iter(partial(stream.read, CHUNK), b""), item.artifact, destination)
            except DamagedError as error:
                raise _UnavailableError(_short(error)) from error

    places: list[tuple[str, Callable[[Path], None]]] = []
    if item.service and tarballs:
        given = partial(from_url, tarballs) if "://" in tarballs else None
        places.append((tarballs, given or partial(from_directory, Path(tarballs))))
    places.append(("package index", from_index))
    if item.service:
        site = f"{TARBALL_SITE}/{item.distribution.removeprefix('openstack-')}"
        places.append((site, partial(from_url, site)))
    return places


class DamagedError(Exception):
    """A download ended early, or its bytes are not the locked ones."""


def _keep(chunks: Iterable[bytes], artifact: Artifact, destination: Path) -> None:
    """Write `chunks` to `destination` if they are the bytes of `artifact`, else leave nothing."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(dir=destination.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
        if digest.hexdigest() != artifact.sha256:
            raise DamagedError(
                f"sha256 {digest.hexdigest()} of {size} bytes is not the locked "
                f"{artifact.sha256} of {artifact.size}"
            )
        Path(name).chmod(0o644)
        Path(name).replace(destination)
    finally:
        Path(name).unlink(missing_ok=True)


def retried(action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Call `action`, up to ATTEMPTS times with 0.5, 1, 2 s between, while it fails in passing.

    What a server says of the request itself (4xx but 408 and 429), a certificate that is
    not trusted and a full disk are final.
    """
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except (requests.RequestException, DamagedError) as error:
            answer = getattr(error, "response", None)
            status = answer.status_code if answer is not None else 0
            final = 400 <= status < 500 and status not in PASSING
            final = final or isinstance(error, requests.exceptions.SSLError)
            if final or attempt == ATTEMPTS - 1:
                raise
            sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def _short(error: BaseException) -> str:
    # requests puts what happened (a name not found, a connection refused) last
    text = str(getattr(error.args[0] if error.args else None, "reason", None) or error)
    return text if len(text) < 200 else f"{text[:200]}…"
