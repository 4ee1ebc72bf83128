"""Sign Release files with a key that lives outside the repository."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import log
from builder.errors import BuildError, PublishError
from builder.files import area_of_a_run, scratch, write_atomically
from builder.publish.locking import locked
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USER_ID = "build-debs repository"
# The public key, kept beside the secret one so that a run that signs nothing starts no gpg.
PUBLIC = "build-debs.asc"
FINGERPRINT = "build-debs.fingerprint"


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret key: its fingerprint, its public half (armoured), and the GnuPG home it is in.

    `own` says that the home is ours alone. An agent started there is then ours to stop;
    in somebody else's home it may hold their passphrase.
    """

    fingerprint: str
    public: bytes
    home: Path | None
    own: bool

    @classmethod
    def open(cls, home: Path) -> Signer:
        """Return the signer whose key is in `home` (mode 0700); the key is made on first use.

        The key is ed25519 without a passphrase and without an end: every apt that reads
        zstd or xz packages verifies it, and a node must not stop updating on a date.
        """
        known = _recorded(home)
        if known:
            return cls(*known, home, own=True)
        with locked(home, "making the repository's key"):
            home.chmod(0o700)
            known = _recorded(home) or _make(home)
        return cls(*known, home, own=True)

    @classmethod
    def existing(cls, fingerprint: str, home: Path | None = None) -> Signer:
        """Return a signer for a key that exists, in `home` or in the user's own GnuPG home."""
        where: list[str | Path] = ["--homedir", home] if home else []
        wanted = fingerprint.replace(" ", "").upper().removeprefix("0X")
        listing = _gpg(where, "--list-secret-keys", "--with-colons", wanted, check=False)
        match = re.search(r"^fpr:+([0-9A-F]{40}):", listing.decode(), re.MULTILINE)
        if match is None:
            raise PublishError(
                f"no secret key {fingerprint} in {home or 'the GnuPG home of this user'}",
                hint="gpg --list-secret-keys shows the keys there are",
            )
        public = _gpg(where, "--armor", "--export", match[1])
        return cls(match[1], public, home, own=False)

    def export_key(self) -> bytes:
        """Return the public key, armoured (apt reads it from a file named .asc)."""
        return self.public

    def sign(self, release: Path) -> tuple[Path, Path]:
        """Write InRelease and Release.gpg beside `release` and return their paths."""
        inline, detached = release.parent / "InRelease", release.parent / "Release.gpg"
        key = ["--local-user", f"{self.fingerprint}!" if self.own else self.fingerprint]
        key += ["--digest-algo", "SHA512", "--armor", "--yes"]
        with self._session() as where:
            _gpg(where, *key, "--output", inline, "--clearsign", release)
            _gpg(where, *key, "--output", detached, "--detach-sign", release)
        return inline, detached

    @contextmanager
    def _session(self) -> Iterator[list[str | Path]]:
        if self.own and self.home is not None:
            with locked(self.home, "signing"), _short(self.home) as where:
                yield where
        else:
            yield ["--homedir", self.home] if self.home else []


def signed_by(signed: Path, public: bytes, detached: Path | None = None) -> bool:
    """Whether `signed` carries a good signature of `public` (armoured), or `detached` is one.

    gpgv is what apt itself asks.
    """
    with scratch() as home:
        ring = home / "key.gpg"
        _gpg(["--homedir", home], "--output", ring, "--dearmor", input_bytes=public)
        files = [detached, signed] if detached else ["--output", home / "text", signed]
        argv = ["gpgv", "--homedir", home, "--keyring", ring, *files]
        return run(argv, check=False).returncode == 0


def _recorded(home: Path) -> tuple[str, bytes] | None:
    try:
        return (home / FINGERPRINT).read_text().strip(), (home / PUBLIC).read_bytes()
    except FileNotFoundError:
        return None


def _make(home: Path) -> tuple[str, bytes]:
    with _short(home) as where:
        listing = _gpg(where, "--list-secret-keys", "--with-colons", check=False)
        if b"\nfpr:" not in listing:
            make = ("--passphrase", "", "--pinentry-mode", "loopback", "--quick-gen-key")
            _gpg(where, *make, USER_ID, "ed25519", "sign", "never")
            listing = _gpg(where, "--list-secret-keys", "--with-colons")
            log.info(f"made the repository's signing key in {home}: keep a copy of it")
        match = re.search(r"^fpr:+([0-9A-F]{40}):", listing.decode(), re.MULTILINE)
        if match is None:
            raise PublishError(f"gpg made no key in {home}", hint="remove the directory")
        public = _gpg(where, "--armor", "--export", match[1])
    write_atomically(home / PUBLIC, public)
    write_atomically(home / FINGERPRINT, f"{match[1]}\n".encode())
    return match[1], public


@contextmanager
def _short(home: Path) -> Iterator[list[str | Path]]:
    """Give gpg `home` under a short name, and stop the agent it starts there.

    The agent's socket is in its home and a socket's path has at most 107 bytes (unix(7)),
    which a user's TMPDIR may have already.
    """
    with area_of_a_run(Path("/tmp")) as area:  # noqa: S108 -- made by mkdtemp(3), mode 0700
        link = area / "k"
        link.symlink_to(home.resolve())
        try:
            yield ["--homedir", link]
        finally:
            run(["gpgconf", "--homedir", link, "--kill", "gpg-agent"], check=False)


def _gpg(
    where: Sequence[str | Path],
    *words: str | Path,
    check: bool = True,
    input_bytes: bytes | None = None,
) -> bytes:
    argv = ["gpg", *where, "--batch", "--no-tty", "--quiet", *words]
    try:
        done = run(argv, check=check, input_bytes=input_bytes)
    except BuildError as error:
        raise PublishError(
            "gpg cannot sign the repository",
            details=error.details,
            hint="a key with a passphrase needs a running gpg-agent that knows it",
        ) from error
    return bytes(done.stdout)
