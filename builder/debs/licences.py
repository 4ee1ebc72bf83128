"""The licence information of a package (Debian policy 12.5), taken from its own wheel."""

from __future__ import annotations

import email
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from builder.model.values import Wheel

# Licences whose full text every Debian system has, by their patterns (most specific first).
COMMON = (
    (r"\bApache\b.*2|^Apache-2", "Apache-2.0"),
    (r"AGPL|Affero", ""),
    (r"LGPL.*2\.1|Lesser General Public License.*2\.1", "LGPL-2.1"),
    (r"LGPL.*3|Lesser General Public License.*3", "LGPL-3"),
    (r"LGPL|Lesser General Public", "LGPL-2"),
    (r"GPL.*3|General Public License.*3", "GPL-3"),
    (r"GPL|General Public License", "GPL-2"),
    (r"MPL.*1\.1", "MPL-1.1"),
    (r"MPL.*2|Mozilla Public License 2", "MPL-2.0"),
)
FILES = re.compile(r"(licen[cs]e|copying|copyright|notice)", re.IGNORECASE)
# a holder's line includes a year; a clause (c) of the licence does not
HOLDER = re.compile(
    r"^\W*(?:copyright\s*)?(?:\(c\)|©|copyright)\s+(?=.*\b(?:19|20)\d\d)(.{4,120})$", re.IGNORECASE
)
PLACEHOLDER = re.compile(
    r"\[yyyy\]|\{yyyy\}|<year>|owner\]|copyright (owner|holder|notice|license)", re.IGNORECASE
)
HIDDEN = frozenset({"Cc", "Cf", "Cs"})
LONGEST = 200  # lines; for a longer text, the package names the file in its dist-info


def describe(site: Path, wheel: Wheel | None) -> dict[str, object]:
    """Return the values of the template `library/copyright.j2` for an unpacked wheel."""
    if wheel is None:
        return {
            "distribution": "build-debs",
            "file": "nothing but its dependencies",
            "sha256": "none",
            "holders": "the build-debs authors",
            "license": "Apache-2.0",
            "text": ["Licensed under the Apache License, Version 2.0."],
            "common": "Apache-2.0",
        }
    info = next(site.glob("*.dist-info"))
    metadata = email.message_from_string(
        (info / "METADATA").read_text(errors="replace", encoding="utf-8")
    )
    texts = {p: p.read_text(errors="replace", encoding="utf-8") for p in _find_licence_files(info)}
    name, common = _identify_licence(metadata, texts)
    source = wheel.source or wheel.path
    return {
        "distribution": wheel.distribution.name,
        "file": source.name,
        "sha256": wheel.distribution.artifacts[0].sha256,
        "holders": _render_holders(metadata, texts),
        "license": common or re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-") or "as-published",
        "text": _render_text(texts, common),
        "common": common,
    }


def _find_licence_files(info: Path) -> list[Path]:
    return sorted(p for p in info.rglob("*") if p.is_file() and FILES.search(p.name))


def _identify_licence(metadata: Message, texts: dict[Path, str]) -> tuple[str, str]:
    """Return the licence's short name, and its file in /usr/share/common-licenses, if any."""
    classifiers = [
        c.rsplit("::", 1)[1].strip()
        for c in metadata.get_all("Classifier") or []
        if c.startswith("License ::") and c != "License :: OSI Approved"
    ]
    field = (metadata["License"] or "").strip()
    name = metadata["License-Expression"] or ""
    name = name or (classifiers[0] if classifiers else "")
    name = name or (field.splitlines()[0] if 0 < len(field) < 80 else "")
    name = name or next((t.strip().splitlines()[0] for t in texts.values() if t.strip()), "")
    haystack = name + "\n" + "\n".join(t[:300] for t in texts.values())
    for pattern, common in COMMON:
        if re.search(pattern, name, re.IGNORECASE):
            return name[:60], common
    apache = re.search(r"Apache License\s+Version 2\.0", haystack)
    return name[:60], "Apache-2.0" if apache else ""


def _render_holders(metadata: Message, texts: dict[Path, str]) -> str:
    """Return the copyright lines of the licence files, or else the author in the metadata."""
    found: dict[str, None] = {}
    for text in texts.values():
        for line in text.splitlines():
            match = HOLDER.match(line)
            if match and not PLACEHOLDER.search(line):
                found[match[1].strip(" .*")] = None
    if not found:
        author = metadata["Author"] or metadata["Author-email"] or metadata["Maintainer-email"]
        found[re.sub(r"\s+", " ", author or f"the authors of {metadata['Name']}").strip()] = None
    return "\n ".join(_strip_hidden(holder) for holder in found)


def _render_text(texts: dict[Path, str], common: str) -> list[str]:
    """Return the licence's text as the lines of a field (policy 5.6.13); ` .` is an empty line."""
    lines: list[str] = []
    for path, text in texts.items():
        # texts in common-licenses are on every Debian system, so they are not repeated (12.5)
        if common or len(text.splitlines()) > LONGEST or "TERMS AND CONDITIONS" in text:
            lines.append(f"The text is in {path.relative_to(path.parents[1])} of the Python tree.")
        else:
            lines += text.replace("\f", "\n").splitlines()
    lines = lines or ["The distribution names its licence but does not include its text."]
    return [_strip_hidden(line).rstrip() or "." for line in lines]


def _strip_hidden(line: str) -> str:
    """Return a line without characters that move the cursor or reorder the text."""
    return "".join(c for c in line if c == "\t" or unicodedata.category(c) not in HIDDEN)
