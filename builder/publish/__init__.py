"""Publish: packages become suites of a signed apt repository in a directory.

The layout is Debian's (https://wiki.debian.org/DebianRepository/Format): `pool/main/…`
is shared by all suites, `dists/<target>-<series>/…` is one suite. docs/decisions/0005
explains why it is written this way.
"""

from builder.publish.contents import Entry, PoolFile
from builder.publish.keys import KeyWish, choose, foresee
from builder.publish.locking import locked
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
    lost,
    publish,
    published,
    published_sources,
)
from builder.publish.signer import Signer

__all__ = [
    "Entry",
    "KeyWish",
    "PoolFile",
    "Published",
    "Signer",
    "Suite",
    "SuiteSummary",
    "choose",
    "foresee",
    "list_packages",
    "list_suites",
    "locked",
    "lost",
    "prune",
    "publish",
    "published",
    "published_sources",
    "remove",
    "verify",
]
