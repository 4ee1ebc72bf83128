"""Build roots: a minimal Debian of a target, for building what this machine cannot build directly.

mmdebstrap makes a root from the mirrors this machine's apt uses. It is kept as a tarball
and unpacked once per run; each build sees it read-only, with a directory of its own at
`/build`, without network, as an unprivileged user (decision 0011). Mounts and processes
of a build live in namespaces that end with it, and with this process.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder import log
from builder.errors import BuildError, MissingToolError
from builder.files import (
    clear_way_for_directory,
    clear_way_for_file,
    discard_unless_file,
    hash_file,
    hash_if_readable,
    hash_text,
    open_area,
    open_scratch,
    read_regular_file,
    write_atomically,
)
from builder.run import Done, find, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BUILD = Path("/build")  # where a build's own directory is, inside
NOBODY = 65534  # user and group of a build that root has started
SECONDS_PER_DAY = 86400
DAYS = 7.0  # default age at which a root is rebuilt
# How this machine reaches the mirrors applies to mmdebstrap too.
FOLLOWED = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo")
# Nobody reads a manual in a build root; without them it is a third smaller.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
# $1 the root, $2 the build's directory, $3 a user id or nothing, then pairs of a path
# here and one in the root up to --, then the command. The mounts are this process's own.
ENTER = r"""
set -eu
root=$1 work=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$work" "$root/build"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$root${2%/*}"
        : >"$root$2"
    fi
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
shift
mount -o remount,bind,ro "$root"
hostname build
# Changing the user clears the parent-death signal, so it is set again.
[ -z "$user" ] || set -- setpriv "--reuid=$user" "--regid=$user" --clear-groups --no-new-privs \
    --pdeathsig KILL "$@"
exec chroot "$root" env -C /build "$@"
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A mirror, `uri`, and the `suite` to use from it."""

    uri: str
    suite: str


def find_sources(suite: str, machine: str) -> list[Source]:
    """Return the mirrors of `suite`: those apt here uses for the suite `machine`, renamed."""
    # Without lists apt knows no code names, only what is written in its sources.
    argv = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
    lines = run(argv).stdout.decode().splitlines()
    pairs = sorted({(line.partition(" ")[0], line.partition(" ")[2]) for line in lines})
    wanted = {machine + tail: suite + tail for tail in ("", "-updates", "-security")}
    found = [Source(uri, wanted[release]) for release, uri in pairs if release in wanted]
    if not any(source.suite == suite for source in found):
        raise MissingToolError(
            f"apt on this machine knows no mirror of {machine or 'Debian'}, from which "
            f"{suite} could be obtained",
            hint="run this on a Debian whose apt has a mirror of its own release",
        )
    return found


@dataclass(frozen=True, slots=True)
class Root:
    """An unpacked root, for the builds of one run. It is read-only."""

    directory: Path

    def run(
        self,
        argv: Sequence[str],
        work: Path,
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        shown: Mapping[Path, str] | None = None,
    ) -> Done:
        """Run `argv` in `/build` of the root, which is `work`; otherwise like builder.run.run.

        `shown` maps files and directories of this machine to where they appear, read-only.
        """
        privileged = os.geteuid() == 0
        if privileged:
            _give(work, NOBODY)
        kinds = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        kinds += [] if privileged else ["--user", "--map-root-user"]
        pairs = [str(p) for here, there in (shown or {}).items() for p in (here, there)]
        settings = {
            "HOME": str(BUILD),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            **(env or {}),
        }
        user = str(NOBODY) if privileged else ""
        try:
            return run(
                [
                    *("setpriv", "--pdeathsig=KILL", "unshare", *kinds, "--propagation=private"),
                    *("sh", str(self.script), str(self.directory), str(work), user, *pairs),
                    *("--", "env", "-i"),
                    *(f"{k}={v}" for k, v in settings.items()),
                    *argv,
                ],
                log=log,
            )
        finally:
            if privileged:
                _give(work, 0)

    @property
    def script(self) -> Path:
        """The script that enters the root, next to it."""
        return self.directory.with_suffix(".sh")


def _give(work: Path, user: int) -> None:
    """Make `user` the owner of a build's directory and of all that is in it."""
    for parent, names, files in os.walk(work):
        for name in (".", *names, *files):
            os.chown(Path(parent, name), user, user, follow_symlinks=False)


def check_machine() -> None:
    """Raise MissingToolError if a tool to make or enter a build root is missing."""
    for tool in ("mmdebstrap", "unshare", "setpriv"):
        find(tool)


def open_root(
    suite: str, packages: Iterable[str], *, machine: str, cache: Path, area: Path, days: float
) -> Root:
    """Return a root of `suite` with `packages`, unpacked in `area`.

    `cache` keeps the tarball; one older than `days` is rebuilt if the mirror answers.
    """
    archive = _provide_archive(suite, sorted(set(packages)), machine, cache, days)
    directory = area / "root"
    directory.mkdir()
    with log.step(f"unpack the build root of {suite}"):
        owner = ["--same-owner"] if os.geteuid() == 0 else ["--no-same-owner"]
        run(["tar", "-C", directory, *owner, "--exclude=./dev/*", "-xf", archive])
        directory.chmod(0o755)
        (directory / "build").mkdir()
        root = Root(directory)
        root.script.write_text(ENTER, encoding="utf-8")
    return root


def _provide_archive(
    suite: str, packages: list[str], machine: str, cache: Path, days: float
) -> Path:
    """Return the tarball of a root; if several processes need it, one makes it."""
    found = find_sources(suite, machine)
    digest = hash_text(suite, *packages, repr(found), *LEFT_OUT)[:12]
    clear_way_for_directory(cache)
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{suite}-{digest}.tar.zst"
    place = cache / f"{archive.name}.lock"
    discard_unless_file(place)  # a fifo would be waited for
    with place.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(f"waiting for another build to make the build root of {suite}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        state = _read_state(archive)
        if state != "sound" or is_old(archive, days):
            if state == "damaged":
                log.warning(f"{archive} in the cache is damaged: rebuilding it")
            try:
                with log.step(f"make a build root of {suite}"):
                    _bootstrap(suite, packages, found, archive)
            except MissingToolError as error:
                if state in {"absent", "damaged"}:
                    raise
                log.warning(f"{error.message}; using one older than {days:g} days")
                return archive
            for old in cache.glob(f"{suite}-*.tar.zst"):
                if is_old(old, days):
                    _remove(old)
    return archive


def _locate_checksum(archive: Path) -> Path:
    """Return the checksum file of a root's tarball, next to it."""
    return archive.with_name(f"{archive.name}.sha256")


def _remove(archive: Path) -> None:
    """Remove a root's tarball and its checksum file, whatever stands in their place."""
    for path in (archive, _locate_checksum(archive)):
        clear_way_for_file(path)
        path.unlink(missing_ok=True)


def _read_state(archive: Path) -> Literal["absent", "unknown", "damaged", "sound"]:
    """Return the state of a cached root; `unknown` means without a checksum."""
    if not os.path.lexists(archive):
        return "absent"
    try:
        wanted = read_regular_file(_locate_checksum(archive)).decode(errors="replace").strip()
    except FileNotFoundError:
        return "unknown" if archive.is_file() else "damaged"
    except OSError:
        return "damaged"
    return "sound" if wanted and hash_if_readable(archive) == wanted else "damaged"


def is_old(archive: Path, days: float) -> bool:
    """Whether the tarball of a root is older than `days`."""
    return time.time() - archive.lstat().st_mtime > days * SECONDS_PER_DAY


def _bootstrap(suite: str, packages: list[str], found: list[Source], archive: Path) -> None:
    mode = "root" if os.geteuid() == 0 else "unshare"
    dump = run(["apt-config", "dump"]).stdout.decode().splitlines()
    options = [
        'APT::Install-Recommends "false"',
        'Acquire::Languages "none"',
        'Acquire::Retries "3"',
        *(line for line in dump if line.startswith(FOLLOWED)),
    ]
    argv = [
        *("mmdebstrap", "--quiet", f"--mode={mode}", "--variant=apt", "--format=tar"),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
        *(f"--aptopt={option}" for option in options),
        f"--include={','.join(packages)}",
    ]
    lines = "".join(f"deb {source.uri} {source.suite} main\n" for source in found)
    # mmdebstrap's directory is removed with ours, even if it is killed; its apt must get in
    with open_area(archive.parent) as area, open_scratch() as temporary:
        temporary.chmod(0o711)
        new = area / archive.name
        env = {"TMPDIR": str(temporary)}
        try:
            run([*argv, suite, new, "-"], input_bytes=lines.encode(), env=env)
        except BuildError as error:
            raise MissingToolError(
                f"a build root of {suite} cannot be made",
                details=error.details,
                hint=f"by hand: {shlex.join(argv)} {suite} ROOT.tar",
            ) from error
        digest = hash_file(new)
        clear_way_for_file(archive)
        clear_way_for_file(_locate_checksum(archive))
        _locate_checksum(archive).unlink(missing_ok=True)
        new.replace(archive)
        write_atomically(_locate_checksum(archive), f"{digest}\n".encode())
