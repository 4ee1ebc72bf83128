"""Small packages of ours without a source package: files in, a reproducible .deb out."""

from __future__ import annotations

import gzip
import hashlib
import re
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.files import sha256_text
from builder.run import run
from builder.templates import MAINTAINER, date_822, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.model.values import Series, Target


@dataclass(frozen=True, slots=True)
class Plain:
    """A package of ours before it has a version.

    `templates`: a directory of `debian-templates/` with control.j2, changelog.j2, copyright.j2
    and lintian-overrides.j2. `files`: what it installs, and maintainer scripts as
    `DEBIAN/<name>`; `executable` names those of mode 0755, and files below etc/ are
    conffiles. `values`: what the templates see in addition to `common_values`. `upstream`: its
    version without ours, if that is not the series' number.
    """

    name: str
    templates: Path
    series: Series
    target: Target
    files: Mapping[str, bytes]
    values: Mapping[str, object]
    executable: frozenset[str] = frozenset()
    upstream: str = ""

    def version(self, revision: int) -> str:
        """Return the version: the series' number, or `upstream`, and our revision."""
        upstream = self.upstream or self.series.number
        return f"{upstream}-1+deb{self.target.release}.{revision}"

    def inputs(self) -> str:
        """Return the digest of everything the package is made from, except its version."""
        files = [
            n + "\0" + hashlib.sha256(data).hexdigest()
            for n, data in sorted(self._all_files().items())
        ]
        return sha256_text(*files, self._control("", "", 0))

    def build(self, output: Path, *, revision: int, epoch_seconds: int) -> Path:
        """Build the package into the directory `output`, and return its path."""
        version = self.version(revision)
        files = self._all_files()
        change = self._render("changelog.j2", version=version, date=date_822(epoch_seconds))
        changelog = f"usr/share/doc/{self.name}/changelog.Debian.gz"
        files[changelog] = gzip.compress(change.encode(), 9, mtime=0)
        control = self._control(version, self.inputs(), _installed_size(files))
        if conffiles := sorted(path for path in files if path.startswith("etc/")):
            files["DEBIAN/conffiles"] = "".join(f"/{path}\n" for path in conffiles).encode()
        files["DEBIAN/control"] = control.encode()
        files["DEBIAN/md5sums"] = _md5sums(files)
        deb = output / f"{self.name}_{version}_all.deb"
        return _pack(files, deb, epoch_seconds, self.executable)

    def _all_files(self) -> dict[str, bytes]:
        """Return all files except the changelog, which contains the version."""
        found = dict(self.files)
        found[f"usr/share/doc/{self.name}/copyright"] = self._render("copyright.j2").encode()
        overrides = f"usr/share/lintian/overrides/{self.name}"
        found[overrides] = self._render("lintian-overrides.j2").encode()
        return found

    def _control(self, version: str, inputs: str, size: int) -> str:
        return self._render("control.j2", version=version, inputs=inputs, installed_size=size)

    def _render(self, template: str, **values: object) -> str:
        return render(
            self.templates,
            template,
            package=self.name,
            **common_values(self.series, self.target),
            **self.values,
            **values,
        )


def common_values(series: Series, target: Target) -> dict[str, object]:
    """Return what the templates of all packages of ours see."""
    return {
        "series": series.id,
        "title": series.name.title(),
        "year": series.date[:4],
        "target": target.suite,
        "architecture": target.architecture,
        "suite": f"{target.suite}-{series.id}",
        "maintainer": MAINTAINER,
    }


def paragraphs(*texts: str) -> tuple[str, ...]:
    """Return paragraphs as the lines of an extended description (policy 5.6.13), unindented."""
    lines: list[str] = []
    for text in filter(None, (t.strip() for t in texts)):
        for paragraph in re.split(r"\n\s*\n", text):
            words = " ".join(paragraph.split())
            lines += [*([] if not lines else ["."]), *textwrap.wrap(words, 78)]
    return tuple(lines)


def _installed_size(files: Mapping[str, bytes]) -> int:
    """Return KiB as dpkg-gencontrol counts: each file rounded up, 1 for each directory."""
    installed = {path: data for path, data in files.items() if not path.startswith("DEBIAN/")}
    parents = {str(parent) for path in installed for parent in Path(path).parents}
    return sum(-(-len(data) // 1024) for data in installed.values()) + len(parents)


def _md5sums(files: Mapping[str, bytes]) -> bytes:
    """Return md5sums as dh_md5sums writes it: without conffiles, which dpkg tracks itself."""
    listed = sorted(path for path in files if path.startswith("usr/"))
    rows = (f"{hashlib.md5(files[p], usedforsecurity=False).hexdigest()}  {p}\n" for p in listed)
    return "".join(rows).encode()


def _pack(
    files: Mapping[str, bytes],
    deb: Path,
    epoch_seconds: int,
    executable: frozenset[str],
) -> Path:
    """Write the .deb of `files` (paths below the root, and `DEBIAN/`): owned by root, mode 0644.

    `executable` are those of mode 0755. The same arguments produce the same bytes.
    """
    deb.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=deb.parent, prefix=f".{deb.name}.") as name:
        root = Path(name) / "root"
        for path, data in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(0o755 if path in executable else 0o644)
        for directory in (root, *(p for p in root.rglob("*") if p.is_dir())):
            directory.chmod(0o755)
        made = Path(name) / deb.name
        # Two KiB gain nothing from zstd, and every dpkg reads xz.
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(made)]
        try:
            run(argv, env={"SOURCE_DATE_EPOCH": str(epoch_seconds)})
        except BuildError as error:
            raise BuildError(f"{deb.name}: {error.message}", details=error.details) from error
        made.replace(deb)
    return deb
