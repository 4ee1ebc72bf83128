"""What vouches for the services' release tarballs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import log, publish
from builder.errors import DataError, FetchError
from builder.fetch import files as fetch
from builder.fetch import signatures
from builder.pipeline.values import Check, Options, Tarball, Work

if TYPE_CHECKING:
    from builder.model.values import Catalogue


def read_keys(catalogue: Catalogue, options: Options) -> tuple[bytes, ...]:
    """Return the public keys to check signatures with: the project's own, and those of --keyring.

    Raises DataError for a file without public keys, and for a keyring that cannot tell a good
    signature from a bad one because it lacks the key of the series.
    """
    series = options.series
    own = catalogue.root / "keys" / f"{series.signing_key}.asc"
    files = [*([own] if own.exists() else []), *([options.keyring] if options.keyring else [])]
    keys = tuple(publish.check_public_keys(file) for file in files)
    known = {fingerprint for public in keys for fingerprint in publish.list_fingerprints(public)}
    if options.keyring and series.signing_key.upper() not in known:
        raise DataError(
            f"{options.keyring} lacks the key that signs the tarballs of {series.id}: "
            f"{series.signing_key}",
            hint="add that key to the file, or leave out --keyring: tarballs are then checked "
            "against the lock alone",
        )
    return keys


def vouch(work: Work, *, offline: bool) -> tuple[Tarball, ...]:
    """Return what vouches for each service's tarball, and log it.

    Raises FetchError for a tarball with a signature that is not a good one by the series' key:
    with or without --keep-going, nothing is published then.
    """
    options, cache = work.options, work.dirs.downloads
    rows = [d for d in work.lock.distributions if d.kind == "service" and d.artifacts[0].sha256]
    files = {w.artifact.file: w for w in fetch.list_wanted(rows)}
    here = [w for w in files.values() if fetch.locate_artifact(cache, w.artifact).exists()]
    found = fetch.fetch_signatures(here, cache, tarballs=options.tarballs, offline=offline)
    for file in [f for f in found if not fetch.is_sound(files[f].artifact, cache)]:
        del found[file]  # a damaged file is not a bad signature
    tarballs = []
    with signatures.open_keyring(options.series.signing_key, work.keys if found else ()) as ring:
        for file, item in files.items():
            check, note = _vouch_for(work, item, found.get(file), ring)
            artifact = item.artifact
            tarballs.append(Tarball(item.distribution, file, artifact.sha256, check, note))
            if options.keyring and check != "signed and verified":
                log.warning(f"{file}: {check} ({note})")  # --keyring asks for more
            else:
                log.detail(f"  {file}: {check} ({note})")
    return tuple(tarballs)


def _vouch_for(
    work: Work,
    item: fetch.Wanted,
    signature: fetch.Signature | None,
    ring: signatures.Keyring | None,
) -> tuple[Check, str]:
    """Return what vouches for a tarball, and why nothing stronger does."""
    key = work.options.series.signing_key
    if signature and ring:
        tarball = fetch.locate_artifact(work.dirs.downloads, item.artifact)
        try:
            signatures.verify(tarball, signature.path, signature.place, ring)
        except FetchError:
            signature.path.unlink()  # so that the next run looks for another
            raise
        return "signed and verified", f"key {key}"
    note = f"no key {key} to check its signature with" if signature else "no signature found"
    locked = not work.options.constraints and item.artifact.file not in work.unlocked
    return ("hash-locked" if locked else "neither"), note
