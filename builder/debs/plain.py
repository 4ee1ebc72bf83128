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

from builder.debs import pack
from builder.files import hash_text
from builder.templates import MAINTAINER, format_date, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.model.values import Series, Target

RECIPE = "2"  # increase it when a change here changes the bits of a package


@dataclass(frozen=True, slots=True)
class Plain:
    """A package of ours before it has a version.

    `templates`: a directory of `debian-templates/` with control.j2, changelog.j2, copyright.j2
    and lintian-overrides.j2. `files`: what it installs, and maintainer scripts as
    `DEBIAN/<name>`; `executable` names those of mode 0755, and files below etc/ are
    conffiles. `values`: what the templates see in addition to `make_common_values`. `upstream`: its
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

    def make_version(self, revision: int) -> str:
        """Return the version: the series' number, or `upstream`, and our revision."""
        upstream = self.upstream or self.series.number
        return f"{upstream}-1+deb{self.target.release}.{revision}"

    def hash_inputs(self) -> str:
        """Return the digest of everything the package is made from, except its version."""
        files = [
            n + "\0" + hashlib.sha256(data).hexdigest()
            for n, data in sorted(self._collect_files().items())
        ]
        return hash_text(RECIPE, *files, self._render_control("", "", 0))

    def build(self, output: Path, *, revision: int, epoch_seconds: int) -> Path:
        """Build the package into the directory `output`, and return its path."""
        version = self.make_version(revision)
        files = self._collect_files()
        change = self._render("changelog.j2", version=version, date=format_date(epoch_seconds))
        changelog = f"usr/share/doc/{self.name}/changelog.Debian.gz"
        files[changelog] = gzip.compress(change.encode(), 9, mtime=0)
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=f".{self.name}.") as name:
            root = Path(name) / "root"
            (root / "DEBIAN").mkdir(parents=True)
            self._lay_files(files, root)
            self._write_control_files(version, root)
            made = Path(name) / f"{self.name}_{version}_all.deb"
            # Two KiB gain nothing from zstd, and every dpkg reads xz.
            pack.pack(root, made, compression=("-Zxz",), epoch_seconds=epoch_seconds)
            return made.replace(output / made.name)

    def _lay_files(self, files: Mapping[str, bytes], root: Path) -> None:
        for path, data in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(0o755 if path in self.executable else 0o644)

    def _write_control_files(self, version: str, root: Path) -> None:
        """Write the control files that list what is laid out in `root`."""
        files = pack.list_files(root)
        control = self._render_control(
            version, self.hash_inputs(), pack.measure_installed_size(root, files)
        )
        conffiles = [path for path in files if path.startswith("etc/")]
        if conffiles:
            listed = "".join(f"/{path}\n" for path in conffiles)
            (root / "DEBIAN/conffiles").write_text(listed, encoding="utf-8")
        (root / "DEBIAN/control").write_text(control, encoding="utf-8")
        pack.write_md5sums(root, files, conffiles)

    def _collect_files(self) -> dict[str, bytes]:
        """Return all files except the changelog, which contains the version."""
        found = dict(self.files)
        found[f"usr/share/doc/{self.name}/copyright"] = self._render("copyright.j2").encode()
        overrides = f"usr/share/lintian/overrides/{self.name}"
        found[overrides] = self._render("lintian-overrides.j2").encode()
        return found

    def _render_control(self, version: str, inputs: str, size: int) -> str:
        return self._render("control.j2", version=version, inputs=inputs, installed_size=size)

    def _render(self, template: str, **values: object) -> str:
        return render(
            self.templates,
            template,
            package=self.name,
            **make_common_values(self.series, self.target),
            **self.values,
            **values,
        )


def make_common_values(series: Series, target: Target) -> dict[str, object]:
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


def wrap_paragraphs(*texts: str) -> tuple[str, ...]:
    """Return paragraphs as the lines of an extended description (policy 5.6.13), unindented."""
    lines: list[str] = []
    for text in filter(None, (t.strip() for t in texts)):
        for paragraph in re.split(r"\n\s*\n", text):
            words = " ".join(paragraph.split())
            lines += [*([] if not lines else ["."]), *textwrap.wrap(words, 78)]
    return tuple(lines)
