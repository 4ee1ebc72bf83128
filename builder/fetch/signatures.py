"""Check that a tarball is signed with the key of its series.

Upstream signs the releases of a cycle with one key (`signing-key` of the series) and publishes
the signatures, detached and armoured, next to the tarballs. gpgv checks them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import BuildError, DataError, FetchError
from builder.files import open_scratch
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

STATUS = "[GNUPG:] "


@dataclass(frozen=True, slots=True)
class Keyring:
    """A file for gpgv, with only the key of this fingerprint."""

    fingerprint: str
    path: Path


@contextmanager
def open_keyring(fingerprint: str, keys: Iterable[bytes]) -> Iterator[Keyring | None]:
    """Yield a keyring with the key of `fingerprint` from public keys, armoured or binary.

    None if none of them is that key. Raises DataError for what gpg does not import.
    """
    with open_scratch() as area:
        home, path = area / "home", area / "key.gpg"
        home.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", str(home), "--batch", "--no-tty", "--quiet", "--no-autostart"]
        known = list(keys)
        for public in known:
            try:
                run([*gpg, "--import"], input_bytes=public)
            except BuildError as error:
                what = "a key to check signatures with cannot be imported"
                raise DataError(what, details=error.details) from error
        if known:
            path.write_bytes(run([*gpg, "--export", fingerprint]).stdout)
        found = known and path.stat().st_size
        yield Keyring(fingerprint.upper(), path) if found else None


def verify(tarball: Path, signature: Path, place: str, ring: Keyring) -> None:
    """Raise FetchError unless `signature`, found in `place`, is the key's and of these bytes."""
    with open_scratch() as home:
        gpgv = ["gpgv", "--homedir", str(home), "--keyring", str(ring.path), "--status-fd", "1"]
        done = run([*gpgv, signature, tarball], check=False)
    words = [
        line.removeprefix(STATUS).split()
        for line in done.stdout.decode(errors="replace").splitlines()
        if line.startswith(STATUS)
    ]
    # The last field of VALIDSIG is the primary key's fingerprint (GnuPG's doc/DETAILS). A
    # signature outlives its key's last day; EXPKEYSIG stands for GOODSIG then.
    valid = any(w[0] == "VALIDSIG" and w[-1] == ring.fingerprint for w in words)
    good = {w[0] for w in words} & {"GOODSIG", "EXPKEYSIG"}
    if not (valid and good) or any(w[0] in {"BADSIG", "REVKEYSIG"} for w in words):
        raise FetchError(
            f"{tarball.name} is not signed with its series' key, {ring.fingerprint.lower()}",
            details=[f"signature: {place}", *done.stderr.decode(errors="replace").splitlines()],
            hint="do not use this tarball; compare it with the one on upstream's site",
        )
