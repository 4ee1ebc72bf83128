"""Publish: packages become suites of a signed apt repository in a directory.

The layout is Debian's (https://wiki.debian.org/DebianRepository/Format): `pool/main/…`
is shared by all suites, `dists/<target>-<series>/…` is one suite. docs/decisions/0005
explains why it is written this way.
"""

from builder.publish.contents import Entry, PoolFile
from builder.publish.keys import KeyWish, choose, foresee
from builder.publish.locking import lock_directory
from builder.publish.manage import (
    SuiteSummary,
    list_packages,
    list_suites,
    prune,
    remove,
    verify,
)
from builder.publish.repository import (
    Published,
    Suite,
    find_lost,
    list_published,
    list_published_sources,
    publish,
)
from builder.publish.signer import Signer, check_public_keys, list_fingerprints

__all__ = [
    "Entry",
    "KeyWish",
    "PoolFile",
    "Published",
    "Signer",
    "Suite",
    "SuiteSummary",
    "check_public_keys",
    "choose",
    "find_lost",
    "foresee",
    "list_fingerprints",
    "list_packages",
    "list_published",
    "list_published_sources",
    "list_suites",
    "lock_directory",
    "prune",
    "publish",
    "remove",
    "verify",
]
