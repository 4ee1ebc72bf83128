"""Sign Release files with a key that lives outside the repository.

gpg never works in the directory a key is kept in: it gets a GnuPG home that lasts only as
long as the signature, with a link to the secret keys. So nothing a killed run left behind
(locks, half a trust database) blocks later runs, and a key on a read-only disk can be used.
An agent that already runs, and may know a passphrase, is used where it is.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder import log
from builder.errors import BuildError, DataError, PublishError
from builder.files import (
    open_area,
    open_scratch,
    read_regular_file,
    sweep,
    write_atomically,
)
from builder.model import reading
from builder.publish.locking import lock_directory
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

USER_ID = "build-debs repository"
LARGEST = 64 << 20  # bytes of a file of public keys
# The public key, kept next to the secret one so that a run that signs nothing starts no gpg.
PUBLIC = "build-debs.asc"
FINGERPRINT = "build-debs.fingerprint"
SECRET = "private-keys-v1.d"  # noqa: S105 - a directory
REVOCATIONS = "openpgp-revocs.d"
KEYRINGS = ("pubring.kbx", "pubring.gpg")
# No user's gpg.conf, no lock, no trust database: gpg writes only what it is asked to.
PLAIN = (
    *("--no-options", "--batch", "--no-tty", "--quiet", "--lock-never"),
    *("--trust-model", "always", "--no-auto-check-trustdb"),
)
# The creation time of every key, whatever the clock says: nodes would refuse a key made on a
# machine whose clock is ahead, until that day.
BORN = "20240101T000000"
# $1 is the file next to which InRelease and Release.gpg are written, $2 a public key to import
# first or empty; gpg and its options follow.
SIGN = """
set -eu
release=$1 public=$2
shift 2
[ -z "$public" ] || "$@" --import "$public"
"$@" --output "${release%/*}/InRelease" --clearsign "$release"
"$@" --output "${release%/*}/Release.gpg" --detach-sign "$release"
"""
CHANGE = "build-debs RELEASE --new-key"  # the verbs of `repo` sign too, but cannot change the key
RESTORE = (
    f"restore the key from your copy; or change it with {CHANGE}, and give nodes the new public key"
)
# A pattern in gpg's output, the cause and what to do. The first match is reported.
CAUSES = (
    (
        "No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room for temporary files and the repository",
    ),
    (
        "Read-only file system|Permission denied|Operation not permitted",
        "a directory it needs cannot be written or read",
        "gpg must be able to read the GnuPG home and to write to /tmp and the repository",
    ),
    (
        "Inappropriate ioctl for device|No pinentry|[Pp]inentry|Operation cancelled|"
        "Bad passphrase|No passphrase|Timeout",
        "the key has a passphrase, and nothing here can ask for it",
        "first unlock it in a gpg-agent of its GnuPG home: start one with gpg-connect-agent /bye, "
        "then sign anything with the key by hand",
    ),
    (
        "Unusable (secret|public) key|No secret key|skipped",
        "it has no usable secret key with that fingerprint",
        RESTORE,
    ),
)


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret key: its fingerprint, its public half (armoured), and the GnuPG home it is in.

    `own` means that the home is ours alone, with keys we made.
    """

    fingerprint: str
    public: bytes
    home: Path
    own: bool

    @classmethod
    def open(cls, home: Path) -> Signer:
        """Return the signer whose key is in `home` (mode 0700); the key is made on first use.

        The key is ed25519 without a passphrase or an expiry date: every apt that reads zstd or
        xz packages verifies it, and a node must not stop updating on some date.
        """
        return cls.find_recorded(home) or cls.make(home)

    @classmethod
    def find_recorded(cls, home: Path, fingerprint: str = "") -> Signer | None:
        """Return the signer of a key we made in `home`: the newest, or that with `fingerprint`."""
        try:
            newest = read_regular_file(home / FINGERPRINT).decode().strip()
            known = fingerprint or newest
            public = read_regular_file(home / (PUBLIC if known == newest else f"{known}.asc"))
        except (OSError, UnicodeDecodeError):
            return None
        whole = re.fullmatch("[0-9A-F]{40}", known) and b"PUBLIC KEY BLOCK" in public
        return cls(known, public, home, own=True) if whole else None

    @classmethod
    def make(cls, home: Path, *, another: bool = False) -> Signer:
        """Make a key in `home`, or find the one a killed run made there.

        `another` makes one in addition to the existing keys, which are kept.
        """
        with lock_directory(home, "making the repository's key"):
            home.chmod(0o700)
            sweep(home)
            made = None if another else cls.find_recorded(home) or _find_unrecorded(home)
            if made is None:
                made = _make_key(home)
                log.info(f"made the repository's signing key in {home}: keep a copy of it")
            _record(home, made)
        return made

    @classmethod
    def find_existing(cls, fingerprint: str, home: Path | None = None) -> Signer:
        """Return a signer for an existing key, in `home` or in the user's own GnuPG home.

        The latter is GNUPGHOME, or ~/.gnupg. Raises PublishError for a key that does not exist
        or cannot sign (expired, revoked, made in the future), with the reason.
        """
        place = home or find_users_home()
        wanted = fingerprint.replace(" ", "").upper().removeprefix("0X")
        with _open_session(place) as gpg:
            listing = _run_gpg(gpg, "--list-secret-keys", "--with-colons", wanted, check=False)
            found = re.findall(r"^fpr:+([0-9A-F]{40}):", listing.decode(), re.MULTILINE)
            if not found:
                raise PublishError(
                    f"no secret key {fingerprint} in {place}",
                    hint=f"gpg --homedir {place} --list-secret-keys lists the keys there; "
                    "set GNUPGHOME to use another directory",
                )
            _check_usable(listing.decode(), found[0], place)
            public = _run_gpg(gpg, "--armor", "--export", found[0])
        return cls(found[0], public, place, own=False)

    @classmethod
    def find(cls, fingerprint: str, keys: Path) -> Signer:
        """Return the signer of a key, from our own directory `keys` or the user's GnuPG home.

        Raises PublishError when neither has it.
        """
        if known := cls.find_recorded(keys, fingerprint):
            return known
        if (keys / SECRET).is_dir():
            with _open_session(keys) as gpg:
                if found := _find_last_key(gpg, keys, fingerprint):
                    return found
        return cls.find_existing(fingerprint)

    def export_key(self) -> bytes:
        """Return the public key, armoured (apt reads it from a file named .asc)."""
        return self.public

    def sign(self, release: Path) -> tuple[Path, Path]:
        """Write InRelease and Release.gpg next to `release` and return their paths."""
        inline, detached = release.parent / "InRelease", release.parent / "Release.gpg"
        exact = f"{self.fingerprint}!" if self.own else self.fingerprint
        key = ["--local-user", exact, "--digest-algo", "SHA512", "--armor", "--yes"]
        with _open_session(self.home, keyring=not self.own) as gpg, open_scratch() as area:
            public = area / "key.asc"
            public.write_bytes(self.public)
            first = str(public) if self.own else ""
            gpg.start("sh", "-c", SIGN, "sign", release, first, *gpg.words, *key)
        return inline, detached

    def prove(self) -> None:
        """Sign a test file, so that a key that cannot sign is found before anything is built."""
        with open_scratch() as area:
            (area / "Release").write_bytes(b"a test\n")
            self.sign(area / "Release")


def find_users_home() -> Path:
    """Return the GnuPG home of the user: GNUPGHOME, or ~/.gnupg."""
    return Path(os.environ.get("GNUPGHOME") or Path.home() / ".gnupg").absolute()


def is_signed_by(signed: Path, public: bytes, detached: Path | None = None) -> bool:
    """Whether `signed` carries a good signature by `public` (armoured), or `detached` is one.

    Uses gpgv, as apt itself does.
    """
    if not all(path.is_file() for path in (signed, detached) if path):
        return False  # gpgv would wait for a fifo
    with open_scratch() as home:
        ring = _dearmor(public, home)
        files: list[str | Path] = ["--output", home / "text", signed]
        files = [detached, signed] if detached else files
        argv: list[str | Path] = ["gpgv", "--homedir", home, "--keyring", ring, *files]
        return run(argv, check=False).returncode == 0


def read_fingerprint(signed: Path, public: bytes) -> str:
    """Return the fingerprint of the key an InRelease is signed with; empty if there is none.

    For a key in `public` (armoured) it is the primary key's, else that of the signing key.
    """
    with open_scratch() as home:
        ring = _dearmor(public, home)
        argv: list[str | Path] = ["gpgv", "--homedir", home, "--status-fd", "1", "--keyring", ring]
        said = run([*argv, "--output", home / "text", signed], check=False).stdout.decode()
    good = re.search(r"^\[GNUPG:\] VALIDSIG .* ([0-9A-F]{40})$", said, re.MULTILINE)
    other = re.search(r"^\[GNUPG:\] ERRSIG .* ([0-9A-F]{40})$", said, re.MULTILINE)
    found = good or other
    return found[1] if found else ""


def list_fingerprints(public: bytes) -> frozenset[str]:
    """Return the fingerprints of a key (armoured): the primary key's and each subkey's."""
    return frozenset(re.findall(r"^fpr:+([0-9A-F]{40}):", _show_keys(public), re.MULTILINE))


def check_public_keys(path: Path) -> bytes:
    """Return what a user's file of public keys has, armoured or not.

    Raises DataError unless it has public keys, and nothing else.
    """
    found = reading.read_given(path, LARGEST)
    kinds = set(re.findall(r"^(pub|sec):", _show_keys(found), re.MULTILINE))
    if kinds != {"pub"}:
        what = "has secret keys" if "sec" in kinds else "has no public key"
        raise DataError(f"{path} {what}", hint="gpg --export makes a file of public keys")
    return found


def _show_keys(keys: bytes) -> str:
    """Return gpg's listing of keys, with colons; it starts no agent, which secret keys would."""
    with open_scratch() as home:
        argv: list[str | Path] = ["gpg", "--homedir", home, *PLAIN, "--no-autostart"]
        argv += ["--show-keys", "--with-colons"]
        return run(argv, input_bytes=keys, check=False).stdout.decode(errors="replace")


def merge_keys(*publics: bytes) -> bytes:
    """Return public keys, armoured or not, as one armoured keyring.

    Raises PublishError for anything that is not a public key.
    """
    with open_scratch() as home:
        gpg: list[str | Path] = ["gpg", "--homedir", home, *PLAIN, "--no-autostart"]
        try:
            for public in filter(None, publics):
                run([*gpg, "--import"], input_bytes=public)
        except BuildError as error:
            raise PublishError(
                "a public key cannot be read", details=error.details, hint="gpg --export makes one"
            ) from error
        return bytes(run([*gpg, "--armor", "--export"]).stdout)


def _dearmor(public: bytes, home: Path) -> Path:
    ring = home / "key.gpg"
    argv: list[str | Path] = ["gpg", "--homedir", home, *PLAIN, "--output", ring, "--dearmor"]
    if run(argv, input_bytes=public, check=False).returncode:
        ring.write_bytes(b"")
    return ring


def _record(home: Path, signer: Signer) -> None:
    """Record which key is the newest; the file that marks the record complete comes last."""
    before = Signer.find_recorded(home)
    if before and before.fingerprint != signer.fingerprint:
        write_atomically(home / f"{before.fingerprint}.asc", before.public)
    write_atomically(home / PUBLIC, signer.public)
    write_atomically(home / FINGERPRINT, f"{signer.fingerprint}\n".encode())


def _find_unrecorded(home: Path) -> Signer | None:
    """Return the key that a killed run made in `home` but did not record."""
    if not (home / SECRET).is_dir():
        return None
    with _open_session(home) as gpg:
        return _find_last_key(gpg, home)


def _find_last_key(gpg: _Gpg, home: Path, *names: str) -> Signer | None:
    listing = _run_gpg(gpg, "--list-secret-keys", "--with-colons", *names, check=False)
    found = re.findall(r"^fpr:+([0-9A-F]{40}):", listing.decode(), re.MULTILINE)
    public = _run_gpg(gpg, "--armor", "--export", found[-1]) if found else b""
    return Signer(found[-1], public, home, own=True) if public else None


def _make_key(home: Path) -> Signer:
    """Make a key in a directory below `home`, then move it to `home`, the secret half first."""
    with open_area(home) as area:
        (area / SECRET).mkdir(mode=0o700)
        for name in KEYRINGS:  # keeps earlier keys, if readable
            with suppress(OSError):
                shutil.copyfile(home / name, area / name)
        try:
            made = _generate_key(area, home)
        except PublishError:
            for name in KEYRINGS:
                (area / name).unlink(missing_ok=True)
            made = _generate_key(area, home)
        for room in (SECRET, REVOCATIONS):
            (home / room).mkdir(mode=0o700, exist_ok=True)
            for path in sorted((area / room).iterdir()):
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
                path.replace(home / room / path.name)
        for name in (*KEYRINGS, "trustdb.gpg"):
            with suppress(FileNotFoundError):
                (area / name).replace(home / name)
    return made


def _generate_key(area: Path, home: Path) -> Signer:
    with open_area(Path("/tmp")) as short:  # noqa: S108 - as in `_open_session`
        (short / "k").symlink_to(area.resolve())
        gpg = _Gpg(short / "k", own_agent=True)
        when = ("--faked-system-time", BORN)
        how = ("--passphrase", "", "--pinentry-mode", "loopback", "--quick-gen-key")
        _run_gpg(gpg, *when, *how, USER_ID, "ed25519", "sign", "never")
        made = _find_last_key(gpg, home)
    if made is None:
        raise PublishError(f"gpg made no key in {home}", hint="remove the directory")
    return made


@dataclass(frozen=True, slots=True)
class _Gpg:
    """How gpg is started: in which GnuPG home, and with which agent."""

    home: Path
    own_agent: bool

    @property
    def words(self) -> list[str | Path]:
        return ["gpg", "--homedir", self.home, *PLAIN]

    def start(self, *argv: str | Path, check: bool = True) -> bytes:
        """Run a program that uses an agent; raise PublishError with the reason if it fails.

        An agent we start ends with that program: within seconds however this process ends, and
        at once if it goes on.
        """
        # Without its own log it may keep our stderr open, and be waited for.
        agent: list[str | Path] = ["gpg-agent", "--homedir", self.home, "--log-file", "/dev/null"]
        agent += ["--quiet", "--daemon"]
        try:
            return bytes(run([*agent, *argv] if self.own_agent else argv, check=check).stdout)
        except BuildError as error:
            raise _signing_error(error) from error
        finally:
            if self.own_agent:
                _stop(self.home)


def _run_gpg(gpg: _Gpg, *words: str | Path, check: bool = True) -> bytes:
    return gpg.start(*gpg.words, *words, check=check)


@contextmanager
def _open_session(home: Path, *, keyring: bool = True) -> Iterator[_Gpg]:
    """Yield a GnuPG home with the secret keys of `home`, and with its public ones (`keyring`).

    It is `home` itself if an agent runs there.
    """
    if _has_agent(home):
        yield _Gpg(home, own_agent=False)
        return
    # A socket's path has at most 107 bytes (unix(7)); a user's TMPDIR alone may be that long.
    with open_area(Path("/tmp")) as area:  # noqa: S108 -- made by mkdtemp(3), mode 0700
        if (home / SECRET).is_dir():
            (area / SECRET).symlink_to((home / SECRET).resolve())
        for name in KEYRINGS if keyring else ():
            with suppress(OSError):
                shutil.copyfile(home / name, area / name)
        yield _Gpg(area, own_agent=True)


def _has_agent(home: Path) -> bool:
    """Whether an agent runs in a GnuPG home."""
    if not home.is_dir():
        return False
    done = run(["gpg-connect-agent", "--homedir", home, "--no-autostart", "/bye"], check=False)
    return not done.returncode and b"no gpg-agent" not in done.stderr


def _stop(home: Path) -> None:
    """Stop the agent of a GnuPG home and wait until it is gone."""
    ask: list[str | Path] = [
        "gpg-connect-agent",
        "--homedir",
        home,
        "--no-autostart",
        "getinfo pid",
        "/bye",
    ]
    match = re.search(rb"^D (\d+)$", run(ask, check=False).stdout, re.MULTILINE)
    if match is None:
        return
    run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)
    for _ in range(50):
        if not Path(f"/proc/{match[1].decode()}").exists():
            return
        time.sleep(0.01)
    with suppress(ProcessLookupError):  # one that waits for ever for a client that is gone
        os.kill(int(match[1]), signal.SIGKILL)


def _signing_error(error: BuildError) -> PublishError:
    said = "\n".join(error.details)
    for pattern, cause, hint in CAUSES:
        if re.search(pattern, said):
            return PublishError(
                f"gpg cannot sign the repository: {cause}", details=error.details, hint=hint
            )
    return PublishError(
        "gpg cannot sign the repository",
        details=error.details,
        hint="run gpg --clearsign with the key by hand to see whether it works at all",
    )


def _check_usable(listing: str, fingerprint: str, home: Path) -> None:
    """Raise PublishError for a key that cannot sign, according to gpg's listing (doc/DETAILS)."""
    fields = next(line for line in listing.splitlines() if line.startswith("sec:")).split(":")
    validity, made, ends, can = fields[1], fields[5], fields[6], fields[11]
    key, now = f"the key {fingerprint} in {home}", time.time()
    if made.isdecimal() and int(made) > now:
        raise PublishError(
            f"{key} was made in the future: {_format_day(made)}",
            hint="set the clock of this machine; if it is right, the clock of the machine that "
            "made the key was wrong: make another key",
        )
    if validity == "e" or (ends.isdecimal() and int(ends) <= now):
        raise PublishError(
            f"{key} expired on {_format_day(ends)}",
            hint=f"extend it with gpg --homedir {home} --quick-set-expire {fingerprint} 1y; then "
            "build again, and give nodes the new .asc",
        )
    if validity in {"r", "d"}:
        state = {"r": "revoked", "d": "disabled"}[validity]
        raise PublishError(f"{key} is {state}", hint=f"sign with another: {CHANGE} --key ID")
    if "S" not in can:
        raise PublishError(f"{key} cannot sign", hint="name one that has a key for signing")


def _format_day(seconds: str) -> str:
    if not seconds.isdecimal():
        return "an unknown day"
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")
