"""Fetch: every file a lock names, into a cache keyed by sha256.

A file enters the cache only if its checksum is right (it is written under a temporary
name and renamed), so cached files can be used without the network.

An artifact whose sha256 is empty was unavailable when its lock was made. `identify` gets it,
only from the user's tarballs or upstream's site, and returns its sha256.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests
from packaging.version import InvalidVersion, Version
from urllib3.exceptions import HTTPError

from builder import cache as caches
from builder import index, log, web
from builder.errors import FetchError
from builder.files import hash_file, open_new_file, read_regular_file
from builder.model.values import Artifact, Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from pypi_simple import DistributionPackage

    from builder.model.values import Distribution

TARBALL_SITE = "https://tarballs.opendev.org/openstack"
ATTEMPTS = 4
PASSING = frozenset({408, 429})  # of the 4xx, those that may be temporary
T = TypeVar("T")
CHUNK = 1 << 18
NAMED = 8  # up to so many files of a group are all named: a series has no more services
UNLOCKED = "unlocked"  # what is known of tarballs whose sha256 no lock has
TIMEOUT = 60  # seconds without a byte
SIGNATURE_TIMEOUT = 5  # likewise, for what a build can do without
ARMOUR = b"-----BEGIN PGP SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class Signature:
    """A detached signature of a tarball, in the cache, and the place where it was found."""

    path: Path
    place: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch; `places` are asked in turn (see `plan`)."""

    distribution: str
    version: str
    artifact: Artifact
    service: bool


def list_wanted(distributions: Iterable[Distribution]) -> list[Wanted]:
    """Return the one file of each distribution a build needs: the first of its artifacts."""
    return [Wanted(d.name, d.version, d.artifacts[0], d.kind == "service") for d in distributions]


def locate_artifact(cache: Path, artifact: Artifact) -> Path:
    """Return where `artifact` is kept: by checksum, with its own name (tools read it)."""
    return cache / artifact.sha256[:2] / artifact.sha256 / artifact.file


def find_missing(files: Sequence[Wanted], cache: Path) -> list[Wanted]:
    """Return the files that are not in the cache, or are damaged there."""
    with ThreadPoolExecutor() as threads:
        there = threads.map(lambda item: is_sound(item.artifact, cache), files)
        return [item for item, good in zip(files, there, strict=True) if not good]


def is_sound(artifact: Artifact, cache: Path) -> bool:
    """Whether the cache has `artifact`, bit by bit; warns if it has something else."""
    path = locate_artifact(cache, artifact)
    try:
        linked = path.parent.is_symlink()
        if not linked and hash_file(path, follow=False) == artifact.sha256:
            return True
    except FileNotFoundError:
        return False
    except OSError:
        pass
    log.warning(f"{path} in the cache is damaged: fetching it again")
    return False


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
    then upstream's tarball site; all else on the index. What cannot be found is missing
    from the answer, and the error next to it names each such file and what was tried for it.
    """
    absent = find_missing(files, cache)
    failure: FetchError | None = None
    got: dict[str, tuple[str, Artifact]] = {}
    if absent and offline:
        failure = _offline_error(absent)
    elif absent:
        got, failure = _fetch_all(absent, cache, tarballs, jobs, quiet=quiet)
    # what is damaged is still there, so that a file exists says nothing
    lost = {w.artifact.sha256 for w in absent if w.artifact.file not in got}
    places = {w.artifact.sha256: locate_artifact(cache, w.artifact) for w in files}
    return Fetched({s: p for s, p in places.items() if s not in lost}), failure


def _offline_error(absent: Sequence[Wanted]) -> FetchError:
    return FetchError(
        f"{len(absent)} files are not in the cache, and --offline forbids fetching them",
        details=[f"{w.artifact.file} (sha256 {w.artifact.sha256 or 'not locked'})" for w in absent],
        hint="run once without --offline",
    )


def identify(
    files: Sequence[Wanted],
    cache: Path,
    *,
    tarballs: str | None = None,
    offline: bool = False,
    look: bool = False,
) -> tuple[Mapping[str, Artifact], FetchError | None]:
    """Bring tarballs whose sha256 is not locked into the cache; return their artifacts by name.

    A tarball fetched before is used again, unless `tarballs` has the file or is a different URL
    than then. `look` fetches nothing and returns what is known.
    """
    found = {w.artifact.file: a for w in files if (a := _find_local(w, cache, tarballs))}
    if look or not files:
        return found, None
    nowhere = [w for w in files if w.artifact.file not in found]
    if offline and nowhere:
        return found, _offline_error(nowhere)
    absent = [w for w in files if w in nowhere or find_given(tarballs, w.artifact.file)]
    got, failure = _fetch_all(absent, cache, tarballs, len(files))
    for file, (place, artifact) in got.items():
        text = f"{artifact.sha256} {artifact.size} {place}\n"
        caches.write(cache / UNLOCKED / file, text.encode())
        found[file] = artifact
    return found, failure


def _find_local(item: Wanted, cache: Path, tarballs: str | None) -> Artifact | None:
    """Return the artifact of a tarball without a locked sha256, if this machine has it."""
    if path := find_given(tarballs, item.artifact.file):
        return Artifact(path.name, hash_file(path), path.stat().st_size)
    record = cache / UNLOCKED / item.artifact.file
    try:
        text = read_regular_file(record, follow=False).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        text = ""
    row = re.fullmatch(r"([0-9a-f]{64}) (\d{1,18}) (.+)\n", text)
    if not row:
        log.warning(f"{record} in the cache is damaged: fetching the tarball again")
        return None
    artifact = Artifact(record.name, row[1], int(row[2]))
    elsewhere = _is_url(tarballs) and row[3] != tarballs
    return artifact if not elsewhere and is_sound(artifact, cache) else None


def find_given(tarballs: str | None, file: str) -> Path | None:
    """Return the file of that name if `tarballs` is a directory that has it."""
    path = Path(tarballs) / file if tarballs and not _is_url(tarballs) else None
    return path if path and path.is_file() else None


def _is_url(tarballs: str | None) -> bool:
    return "://" in (tarballs or "")


def _fetch_all(
    absent: Sequence[Wanted], cache: Path, tarballs: str | None, jobs: int, *, quiet: bool = False
) -> tuple[dict[str, tuple[str, Artifact]], FetchError | None]:
    """Fetch files; return the source and artifact of each by name, and what went wrong."""
    client = Client()
    got: dict[str, tuple[str, Artifact]] = {}
    problems: dict[str, tuple[tuple[str, str], ...]] = {}
    with log.step("fetch", 0 if quiet else len(absent)) as step, ThreadPoolExecutor(jobs) as pool:

        def fetch_one(item: Wanted) -> None:
            tried = []
            for name, place in _list_places(item, client, tarballs):
                try:
                    got[item.artifact.file] = name, place(cache)
                except _UnavailableError as error:
                    if name == tarballs and _is_refusal(str(error)):
                        raise _refused_error(name, item.artifact.file, error) from error
                    tried.append((name, str(error)))
                else:
                    step.advance(item.artifact.file, item.artifact.size)
                    return
            problems[item.artifact.file] = tuple(tried)

        for future in [pool.submit(fetch_one, item) for item in absent]:
            future.result()
    if not problems:
        return got, None
    reasons = [reason for tried in problems.values() for _, reason in tried]
    return got, FetchError(
        f"cannot get {len(problems)} of {len(absent)} files",
        details=_describe_problems(problems),
        hint=_choose_hint(
            reasons,
            "check the network and the package index settings (UV_DEFAULT_INDEX, "
            "PIP_INDEX_URL, pip.conf), or provide service tarballs with --tarballs DIR|URL",
        ),
    )


def _choose_hint(reasons: Iterable[str], otherwise: str) -> str:
    """Return what to do: about credentials if a server asked for them (RFC 9110, 15.5)."""
    return index.HINT if any(map(_is_refusal, reasons)) else otherwise


def _is_refusal(reason: str) -> bool:
    return re.match(r"40[137] Client Error", reason) is not None


def _refused_error(tarballs: str, file: str, reason: Exception) -> FetchError:
    """Return the error for a site the user named that wants other credentials.

    The file may be elsewhere too, but the user wants it from there.
    """
    return FetchError(
        f"--tarballs {tarballs}: {file}: {reason}",
        hint="put the user and password into that URL or into a netrc file, or leave the option "
        "out",
    )


def _describe_problems(problems: Mapping[str, tuple[tuple[str, str], ...]]) -> list[str]:
    """Return for each file the places that were asked and why they failed, one per line.

    Files that fail everywhere for the same reasons are grouped.
    """
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for file, tried in sorted(problems.items()):
        # upstream's site has a directory per project
        general = tuple(
            (re.sub(f"^{re.escape(TARBALL_SITE)}/.*", TARBALL_SITE, p), r) for p, r in tried
        )
        alike.setdefault(general, []).append(file)
    lines = []
    for general, names in alike.items():
        tried = general if len(names) > 1 else problems[names[0]]
        shown = names if len(names) <= NAMED else [*names[:3], f"and {len(names) - 3} more"]
        head = f"{', '.join(shown)}:"
        rows = [f"{place}: {reason}" for place, reason in tried]
        lines += [f"{head} {rows[0]}"] if len(rows) == 1 else [head, *(f"  {r}" for r in rows)]
    return lines


def fetch_signatures(
    files: Iterable[Wanted], cache: Path, *, tarballs: str | None = None, offline: bool = False
) -> dict[str, Signature]:
    """Return the existing signatures of the services' tarballs among `files`, by file name.

    Upstream puts `<tarball>.asc` next to a tarball on its site, and `tarballs` may have it too;
    an index has none. The cache keeps signatures, and which places have none.
    """
    client, found = Client(), {}
    for item in files:
        if item.service and (
            one := _fetch_signature(item, cache, client, tarballs, offline=offline)
        ):
            found[item.artifact.file] = one
    return found


def _fetch_signature(
    item: Wanted, cache: Path, client: Client, tarballs: str | None, *, offline: bool
) -> Signature | None:
    tarball = locate_artifact(cache, item.artifact)
    kept = tarball.with_name(f"{tarball.name}.asc")
    if path := find_given(tarballs, kept.name):
        caches.write(kept, path.read_bytes())
        return Signature(kept, str(path))
    if kept.is_file() and not kept.is_symlink():
        return Signature(kept, str(kept))
    if offline:
        return None
    record = tarball.with_name(f"{tarball.name}.unsigned")
    try:
        without = read_regular_file(record, follow=False).decode(errors="replace").splitlines()
    except OSError:
        without = []
    bases = [
        *([tarballs.rstrip("/")] if tarballs and _is_url(tarballs) else []),
        _locate_site(item),
    ]
    for url in [u for base in bases if (u := f"{base}/{kept.name}") not in without]:
        answer = _ask_for_signature(url, client, tarballs)
        if answer:
            caches.write(kept, answer)
            return Signature(kept, url)
        if answer is not None:
            without.append(url)
            caches.write(record, "".join(f"{u}\n" for u in without).encode())
    return None


def _ask_for_signature(url: str, client: Client, tarballs: str | None) -> bytes | None:
    """Return the answer of `Client.fetch_signature`; FetchError if the user's site refuses."""
    try:
        return client.fetch_signature(url)
    except _UnavailableError as error:
        ours = tarballs and _is_url(tarballs) and url.startswith(tarballs.rstrip("/"))
        # a store of objects has 403 for one it does not have
        if ours and not str(error).startswith("403"):
            raise _refused_error(str(tarballs), url.rpartition("/")[2], error) from error
        return None


class _UnavailableError(Exception):
    """A place does not have a file, or has another."""


class Client:
    """HTTP and the package index, shared by the threads of one run."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._silent: set[str] = set()
        self._pages: dict[tuple[str, str], list[DistributionPackage] | None] = {}

    @property
    def session(self) -> requests.Session:
        """The thread's own session (requests' are not thread-safe)."""
        if not hasattr(self._local, "session"):
            self._local.session = web.open_session()
        session: requests.Session = self._local.session
        return session

    def list_packages(self, distribution: str) -> list[DistributionPackage]:
        """Return the files of a distribution on the first package index that knows it.

        For several indexes that is uv's rule, too (`--index-strategy first-index`).
        """
        for packages in self._read_pages(distribution):
            if packages is not None:
                return packages
        raise _UnavailableError(f"no project {distribution}")

    def _read_pages(self, distribution: str) -> Iterator[list[DistributionPackage] | None]:
        """Yield each index's files of a distribution (PEP 503 and 691), None for nothing."""
        # imported here: it is slow to import, and a run with a warm cache does not need it
        from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple  # noqa: PLC0415

        for endpoint in index.list_urls(PYPI_SIMPLE_ENDPOINT):
            if (endpoint, distribution) not in self._pages:
                simple = PyPISimple(endpoint, session=self.session)
                ask = partial(simple.get_project_page, distribution, timeout=TIMEOUT)
                try:
                    packages = retry(ask).packages
                except NoSuchProjectError:
                    packages = None
                except requests.RequestException as error:
                    raise _UnavailableError(_shorten(error)) from error
                self._pages[endpoint, distribution] = packages
            yield self._pages[endpoint, distribution]

    def find_url(self, item: Wanted) -> str:
        """Return the URL of a file on a package index."""
        known = False
        for packages in self._read_pages(item.distribution):
            known = known or packages is not None
            for package in packages or ():
                if package.filename == item.artifact.file:
                    return package.url
        missing = "no such file there" if known else f"no project {item.distribution}"
        raise _UnavailableError(missing)

    def list_files(self, distribution: str) -> dict[str, list[Artifact]]:
        """Return the index's files of a distribution, by version; empty if it does not have it.

        Raises FetchError if it does not answer. Files without a sha256 are left out.
        """
        found: dict[str, list[Artifact]] = {}
        try:
            packages = self.list_packages(distribution)
        except _UnavailableError as error:
            if str(error).startswith("no project"):
                return found
            raise FetchError(
                f"{distribution}: the package index: {error}", hint=_choose_hint([str(error)], "")
            ) from error
        for package in packages:
            digest = package.digests.get("sha256")
            if package.version and digest:
                row = Artifact(package.filename, digest, package.size or 0)
                found.setdefault(package.version, []).append(row)
        return found

    def find_newest(self, distribution: str, day: date) -> str:
        """Return the newest version of the major release that was newest on a day.

        That is a service's version in the series released that day. Empty if there was none
        yet, or the index does not publish upload times (PEP 700).
        """
        found = {}
        try:
            packages = self.list_packages(distribution)
        except _UnavailableError:
            return ""
        for package in packages:
            with suppress(InvalidVersion):
                version = Version(package.version or "")
                if package.upload_time and not version.is_prerelease:
                    found[version] = package.upload_time.date()
        then = max((v for v, uploaded in found.items() if uploaded <= day), default=None)
        if then is None:
            return ""
        return str(max(v for v in found if v.major == then.major))

    def download(self, url: str, artifact: Artifact, cache: Path) -> Artifact:
        """Download `url` into the cache if its bytes are those of `artifact`; return that."""
        try:
            return retry(partial(self._stream, url, artifact, cache))
        except (requests.RequestException, DamagedError) as error:
            raise _UnavailableError(_shorten(error)) from error

    def fetch_signature(self, url: str) -> bytes | None:
        """Return the signature at `url`, empty if there is none, None if nobody answers.

        There is one try with a short timeout, and no further one for a host that does not answer.
        Raises _UnavailableError if it asks for other credentials: nothing is known then.
        """
        host = urlsplit(url).netloc
        if host in self._silent:
            return None
        try:
            answer = self.session.get(url, timeout=SIGNATURE_TIMEOUT)
        except requests.RequestException:
            self._silent.add(host)
            return None
        if answer.status_code in web.REFUSED:
            raise _UnavailableError(f"{answer.status_code} Client Error: {answer.reason}")
        if answer.status_code >= 500 or answer.status_code in PASSING:
            return None
        # a page that says there is no such file is not a signature
        return answer.content if answer.ok and ARMOUR in answer.content else b""

    def _stream(self, url: str, artifact: Artifact, cache: Path) -> Artifact:
        # Some servers label a .tar.gz as an encoding: take its bytes unchanged.
        plain = {"Accept-Encoding": "identity"}
        with self.session.get(url, stream=True, timeout=TIMEOUT, headers=plain) as answer:
            answer.raise_for_status()
            try:
                return _keep(answer.raw.stream(CHUNK, decode_content=False), artifact, cache)
            except HTTPError as error:
                raise DamagedError(f"the download broke off: {error}") from error


def _list_places(
    item: Wanted, client: Client, tarballs: str | None
) -> list[tuple[str, Callable[[Path], Artifact]]]:
    """Return the places to ask for `item`: a name and a function that fetches into the cache."""

    def fetch_from_index(cache: Path) -> Artifact:
        return client.download(client.find_url(item), item.artifact, cache)

    def fetch_from_url(base: str, cache: Path) -> Artifact:
        return client.download(f"{base.rstrip('/')}/{item.artifact.file}", item.artifact, cache)

    def fetch_from_directory(directory: Path, cache: Path) -> Artifact:
        source = directory / item.artifact.file
        if not source.is_file():
            raise _UnavailableError("no such file")
        with source.open("rb") as stream:
            try:
                return _keep(iter(partial(stream.read, CHUNK), b""), item.artifact, cache)
            except DamagedError as error:
                raise _UnavailableError(_shorten(error)) from error

    places: list[tuple[str, Callable[[Path], Artifact]]] = []
    if item.service and tarballs:
        one = partial(fetch_from_url, tarballs) if _is_url(tarballs) else None
        places.append((tarballs, one or partial(fetch_from_directory, Path(tarballs))))
    if item.artifact.sha256:  # anybody may upload there, so only locked files are taken
        places.append(("package index", fetch_from_index))
    if item.service:
        site = _locate_site(item)
        places.append((site, partial(fetch_from_url, site)))
    return places


def _locate_site(item: Wanted) -> str:
    """Return the directory of a service's releases on upstream's tarball site."""
    return f"{TARBALL_SITE}/{item.distribution.removeprefix('openstack-')}"


class DamagedError(Exception):
    """A download ended early, or its bytes are not the locked ones."""


def _keep(chunks: Iterable[bytes], artifact: Artifact, cache: Path) -> Artifact:
    """Put `chunks` into the cache if they are the bytes of `artifact`, else leave nothing.

    Returns `artifact`, with sha256 and size filled in if they were unknown.
    """
    cache.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open_new_file(cache) as (out, name):
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.flush()
        if not artifact.sha256:
            if not _is_gzip(name):  # a page that says there is no such file
                raise DamagedError("not a .tar.gz")
            artifact = replace(artifact, sha256=digest.hexdigest(), size=size)
        if digest.hexdigest() != artifact.sha256:
            raise DamagedError(
                f"sha256 {digest.hexdigest()} of {size} bytes is not the locked "
                f"{artifact.sha256} of {artifact.size}"
            )
        name.chmod(0o644)
        place = locate_artifact(cache, artifact)
        caches.make_room(place)
        name.replace(place)
        return artifact


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def retry(action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Call `action`, up to ATTEMPTS times with 0.5, 1, 2 s between, while errors may be temporary.

    A server's refusal of the request itself (4xx but 408 and 429), an untrusted certificate
    and a full disk are final.
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


def _shorten(error: BaseException) -> str:
    # requests puts what happened (a name not found, a connection refused) last
    reason = getattr(error.args[0] if error.args else None, "reason", None) or error
    text = str(getattr(reason, "original_error", reason))  # a proxy's
    # the place is already named
    text = re.sub(r"^HTTPS?Connection(Pool)?\(.*?\): | for url: \S+$", "", text)
    text = index.mask_secrets(text)
    return text if len(text) < 200 else f"{text[:200]}…"
