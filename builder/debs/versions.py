"""PEP 440 versions and specifiers as Debian versions and relations that sort the same way.

Debian compares a version in runs of non-digits and digits; in a non-digit run `~`
sorts before the end, letters next, everything else after (deb-version(7)). Equal
PEP 440 versions (1.0 and 1.0.0) must be one Debian version, so a release is padded
to three components and trailing zeros beyond the third are dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.specifiers import Specifier

_DIGIT_AS_LETTER = str.maketrans("0123456789", "ABCDEFGHIJ")


def translate_version(version: str | Version, epoch: int = 0) -> str:
    """Return the Debian upstream version (with `N:` if there is an epoch) of a PEP 440 version.

    `1.0rc1` → `1.0.0~rc1`, `1.0.dev2` → `1.0.0~~dev2`, `1.0.post3` → `1.0.0+post3`,
    `1!1.0` → `1:1.0.0`; `epoch` is added to the version's own (Debian policy 5.6.12).
    """
    v = version if isinstance(version, Version) else Version(version)
    text = _pad_release(v.release)
    if v.pre is not None:
        text += f"~{v.pre[0]}{v.pre[1]}"
    if v.post is not None:
        text += f"+post{v.post}"
    if v.dev is not None:
        # 1.0.dev1 sorts before 1.0a1.dev1: two tildes if it is neither a pre- nor a post-release
        text += f"{'~' if v.pre is None and v.post is None else ''}~dev{v.dev}"
    if v.local is not None:
        text += "+local." + ".".join(_translate_local_segment(s) for s in v.local.split("."))
    total = epoch + v.epoch
    return f"{total}:{text}" if total else text


def _pad_release(release: tuple[int, ...]) -> str:
    numbers = list(release) + [0] * (3 - len(release))
    while len(numbers) > 3 and numbers[-1] == 0:
        numbers.pop()
    return ".".join(map(str, numbers))


def _translate_local_segment(segment: str) -> str:
    # PEP 440: numbers sort above words, and words as plain strings. A tag letter orders
    # the two kinds, upper-case letters stand for digits inside a word (they sort below
    # lower-case letters, as digits do), and a final ~ sorts a word below any longer one.
    if segment.isdigit():
        return f"z{segment}~"
    return f"a{segment.translate(_DIGIT_AS_LETTER)}~"


def make_full_version(
    version: str | Version, release: int, revision: int, epoch: int = 0, layers: Iterable[str] = ()
) -> str:
    """Return upstream version and revision: `2:33.0.2-1+deb12.1` on Debian 12, revision 1.

    The Debian release precedes our revision, so that the package for the next Debian always
    sorts higher (and is installed by a distribution upgrade). `layers` are the overlays whose
    patches are applied, `2:33.0.2-1+deb12.1+site`: this sorts above the same revision without
    them, and below the next.
    """
    site = "".join(f"+{layer}" for layer in dict.fromkeys(filter(None, layers)))
    return f"{translate_version(version, epoch)}-1+deb{release}.{revision}{site}"


def split_revision(version: str) -> tuple[str, int]:
    """Split a full version into the part before our revision and the revision (0 if none)."""
    match = re.fullmatch(r"(.*\+deb\d+\.)(\d+)(?:\+[a-z0-9]+)*", version)
    return (match[1], int(match[2])) if match else (version, 0)


def translate_specifier(  # noqa: PLR0911 - one return an operator
    package: str, specifier: Specifier, epoch: int = 0
) -> list[str]:
    """Return the Debian relations (to be joined by `, `) equivalent to one PEP 440 specifier.

    Bounds are upstream versions without a revision. `V~~` sorts before every pre-release
    of V, and `V.~` after every local and post-release of it.
    """
    operator, text = specifier.operator, specifier.version
    if operator == "==" and text.endswith(".*"):
        return _translate_prefix(package, Version(text[:-2]), epoch)
    if operator == "!=" and text.endswith(".*"):
        low, high = _compute_prefix_bounds(Version(text[:-2]), epoch)
        return [f"{package} (<< {low}) | {package} (>= {high})"]
    version = Version(re.sub(r"^===", "", text))
    deb = translate_version(version, epoch)
    above = f"{deb}.~" if version.local is None else f"{deb}+"
    match operator:
        case ">=":
            return [f"{package} (>= {deb})"]
        case ">":
            return [f"{package} (>= {above})"]
        case "<=":
            # 1.0+local satisfies <=1.0 (PEP 440, local version identifiers)
            return [f"{package} (<< {deb}+post~)"]
        case "<":
            return [f"{package} (<< {deb}{'' if version.is_prerelease else '~~'})"]
        case "==" | "===":
            return [f"{package} (>= {deb})", f"{package} (<< {deb}+post~)"]
        case "!=":
            return [f"{package} (<< {deb}) | {package} (>= {deb}+post~)"]
        case "~=":
            prefix = Version(f"{version.epoch}!" + ".".join(map(str, version.release[:-1])))
            return [f"{package} (>= {deb})", _translate_prefix(package, prefix, epoch)[1]]
    raise ValueError(f"unknown operator in {specifier}")


def _compute_prefix_bounds(version: Version, epoch: int) -> tuple[str, str]:
    epoch += version.epoch
    after = (*version.release[:-1], version.release[-1] + 1)
    bounds = (_pad_release(r) + "~~" for r in (version.release, after))
    low, high = (f"{epoch}:{b}" if epoch else b for b in bounds)
    return low, high


def _translate_prefix(package: str, version: Version, epoch: int) -> list[str]:
    low, high = _compute_prefix_bounds(version, epoch)
    return [f"{package} (>= {low})", f"{package} (<< {high})"]
