"""Choose the key a suite is signed with: the one its nodes know, unless you name another.

A suite remembers its key by its signature and the public key at the top of the repository.
A new suite takes the key of the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, Unpack

from builder import log
from builder.errors import PublishError
from builder.files import read_regular_file
from builder.publish.layout import Layout, list_layouts
from builder.publish.signer import (
    CHANGE,
    RESTORE,
    Signer,
    list_fingerprints,
    merge_keys,
    read_fingerprint,
)
from builder.publish.state import load

if TYPE_CHECKING:
    from pathlib import Path


def find_key(layout: Layout) -> str:
    """Return the fingerprint of the key a suite is signed with; empty if never published."""
    state = load(layout)
    if state is None:
        return ""
    return state.fingerprint or read_fingerprint(layout.inrelease, read_public_key(layout))


def read_public_key(layout: Layout) -> bytes:
    """Return the suite's public key at the top of the repository; empty if it is lost."""
    try:
        return read_regular_file(layout.repo / f"{layout.suite}.asc")
    except OSError:
        return b""


def list_known_keys(repo: Path, suite: str) -> tuple[str, ...]:
    """Return the keys `suite` may be signed with: its own, or those of the other suites."""
    own = find_key(Layout(repo, suite))
    if own:
        return (own,)
    found = (find_key(layout) for layout in list_layouts(repo))
    return tuple(dict.fromkeys(key for key in found if key))


class KeyWish(TypedDict, total=False):
    """What a user may ask of the key that signs a suite."""

    key: str
    """A fingerprint or an address; the default is the key the repository remembers."""
    new_key: bool
    """Allow a key other than the remembered one."""
    trusted: bytes
    """Public keys, armoured or not, that nodes get in addition to the signer's."""


def choose(repo: Path, suite: str, keys: Path, **wish: Unpack[KeyWish]) -> Signer:
    """Return the signer for `suite`: with the key asked for, or else the one it remembers.

    Nodes keep the public keys they have until the suite is signed with a new one. `keys` is the
    directory of the keys we make. A new repository gets the newest of them, made on first use.
    With `new_key` and no `key` it is the newest in `keys`; if that is the remembered one, a key
    is made.
    Raises PublishError for a key that does not exist or is not the repository's.
    """
    new_key = wish.get("new_key", False)
    signer = _find_signer(repo, suite, keys, wish.get("key", ""), new_key=new_key)
    if signer is None:
        signer = Signer.make(keys, another=new_key and Signer.find_recorded(keys) is not None)
    return _add_trusted(signer, repo, suite, wish.get("trusted", b""), new_key=new_key)


def foresee(repo: Path, suite: str, keys: Path, **wish: Unpack[KeyWish]) -> bytes:
    """Return the public keys nodes get from the signer of `choose`; empty if it makes a key."""
    new_key = wish.get("new_key", False)
    signer = _find_signer(repo, suite, keys, wish.get("key", ""), new_key=new_key)
    if signer is None:
        return b""
    trusted = wish.get("trusted", b"")
    return _add_trusted(signer, repo, suite, trusted, new_key=new_key).public


def _add_trusted(
    signer: Signer, repo: Path, suite: str, trusted: bytes, *, new_key: bool
) -> Signer:
    """Return the signer with the other keys nodes trust added to its public keys."""
    before = read_public_key(Layout(repo, suite))
    kept = not new_key and before not in {b"", signer.public}
    if kept and signer.fingerprint not in list_fingerprints(before):
        kept = False
    if not (kept or trusted):
        return signer
    return replace(signer, public=merge_keys(signer.public, before if kept else b"", trusted))


def _find_signer(repo: Path, suite: str, keys: Path, key: str, *, new_key: bool) -> Signer | None:
    """Return the signer for a suite, or None if a key must be made."""
    known = list_known_keys(repo, suite)
    if key:
        bare, own = key.replace(" ", "").upper().removeprefix("0X"), Signer.find_recorded(keys)
        ours = own is not None and len(bare) >= 8 and own.fingerprint.endswith(bare)
        given = own if own and ours else Signer.find_existing(key)
        check(repo, suite, given, new_key=new_key, quiet=True)
        return given
    newest = Signer.find_recorded(keys)
    if new_key:
        return None if newest is not None and newest.fingerprint in known else newest
    if not known:
        return newest
    if newest and newest.fingerprint in known:
        return newest
    if len(known) > 1:
        raise PublishError(
            f"the suites of {repo} are signed with {len(known)} keys",
            details=known,
            hint=f"choose the one for {suite} with --key ID",
        )
    try:
        return Signer.find(known[0], keys)
    except PublishError as error:
        raise PublishError(
            f"{suite} is signed with the key {known[0]}, which cannot be used here: "
            f"{error.message}",
            details=[f"looked in {keys} and this user's GnuPG home", *error.details],
            hint=RESTORE if "no secret key" in error.message else error.hint,
        ) from error


def check(repo: Path, suite: str, signer: Signer, *, new_key: bool, quiet: bool = False) -> None:
    """Raise PublishError if `signer` is not the repository's and no new key is asked for.

    Warns what a new key means for nodes, unless `quiet`.
    """
    known = list_known_keys(repo, suite)
    if not known or signer.fingerprint in known:
        return
    if not list_fingerprints(signer.public).isdisjoint(known):
        return  # signed by a subkey of it
    if new_key and quiet:
        return
    if new_key:
        log.warning(
            f"{suite} was signed with {', '.join(known)}, now with {signer.fingerprint}: nodes "
            f"will refuse it until they have {suite}.asc"
        )
        return
    what = f"{suite} is" if find_key(Layout(repo, suite)) else f"the suites of {repo} are"
    raise PublishError(
        f"{what} signed with {', '.join(known)}, not with {signer.fingerprint}: nodes would "
        "refuse it",
        hint=f"sign with the key they know; or change it with {CHANGE}, and give them the new "
        f"{suite}.asc",
    )
