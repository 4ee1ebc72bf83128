"""The series' Python tree, laid out below a directory as it is on a node.

`installer` unpacks each wheel into it once per run (PEP 427). Library packages take their
files from it. Smoke tests and the sample-file generators run in it, because they need the
whole closure, which the build machine has not installed.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.utils import Scheme, copyfileobj_with_hashing
from packaging.utils import canonicalize_name

from builder import archives
from builder.debs import elf
from builder.debs.members import Source
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import BinaryIO

    from installer.scripts import ScriptSection

    from builder.debs.library import Context
    from builder.model.values import Wheel

KIND = "wheel"
INSTALLER = {"INSTALLER": b"dpkg\n"}  # PEP 376: the owner of the files, so pip leaves them alone
IN_THE_WAY = (FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class Laid:
    """The `files` of one wheel in the tree below `root`, relative to `root`.

    `binaries` are those of them that are machine code of the target. `left_out` are files that
    are not packaged. `again` are files whose place was already taken, each with a digest of
    the wheel's version.
    """

    root: Path
    files: tuple[str, ...]
    binaries: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    again: Mapping[str, str] = field(default_factory=dict)

    def link(self, root: Path) -> None:
        """Hard-link the files below `root`; the links must not be written to."""
        for parent in {name.rpartition("/")[0] for name in self.files}:
            (root / parent).mkdir(parents=True, exist_ok=True)
        for name in self.files:
            os.link(f"{self.root}/{name}", f"{root}/{name}")


@dataclass(frozen=True, slots=True)
class Shared:
    """A file that is identical in several wheels: only the package of `owner` has it.

    `path` is relative to the tree's root; distributions have canonical names.
    """

    path: str
    owner: str
    others: tuple[str, ...]


@dataclass
class _Destination(SchemeDictionaryDestination):
    """Writes the files of one wheel into a tree that other processes also write to.

    Programs are always executable: a wheel made on Windows has no modes. Paths are strings, and
    each directory is made once: installer's own version spends half the time of a thousand-file
    wheel joining paths and checking directories.
    """

    files: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)

    def _path_with_destdir(self, scheme: Scheme, path: str) -> Path:
        return Path(f"{self.destdir}{self._locate(scheme, path)}")

    def _locate(self, scheme: Scheme, path: str) -> str:
        """Return where a member goes; raise ValueError if that is outside its scheme."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"the member {path!r} is outside it")
        return f"{self.scheme_dict[scheme]}/{path}"

    def write_to_fs(
        self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Write a file, or record what would be written if its place is taken."""
        name = self._locate(scheme, path)
        target = f"{self.destdir}{name}"
        parent = target.rpartition("/")[0]
        executable = is_executable or parent == f"{self.destdir}{self.scheme_dict['scripts']}"
        try:
            if parent not in self.parents:
                Path(parent).mkdir(parents=True, exist_ok=True)
                self.parents.add(parent)
            file = open(target, "xb")  # noqa: PTH123, SIM115 - thousands of them
        except IN_THE_WAY:
            return self._note_duplicate(name, path, stream, executable)
        with file:
            digest, size = copyfileobj_with_hashing(stream, file, self.hash_algorithm)
            if executable:
                os.fchmod(file.fileno(), 0o755)
        self.files[name] = _add_mode(digest, executable)
        return RecordEntry(path, Hash(self.hash_algorithm, digest), size)

    def write_script(
        self, name: str, module: str, attr: str, section: ScriptSection
    ) -> RecordEntry:
        """Write the program of an entry point."""
        _, data = Script(name, module, attr, section).generate(self.interpreter, self.script_kind)
        return self.write_to_fs(Scheme("scripts"), name, io.BytesIO(data), is_executable=True)

    def _note_duplicate(
        self, name: str, path: str, stream: BinaryIO, executable: bool
    ) -> RecordEntry:
        digest, size = copyfileobj_with_hashing(stream, io.BytesIO(), self.hash_algorithm)
        what = _add_mode(digest, executable)
        if self.files.get(name, what) != what:
            raise ValueError(f"two of its members go to {name}, but they differ")
        if name not in self.files:
            self.again[name] = what
        return RecordEntry(path, Hash(self.hash_algorithm, digest), size)


def _add_mode(digest: str, executable: bool) -> str:
    return f"{digest} {'755' if executable else '644'}"


def _hash_file(path: Path) -> str:
    """Return the digest of the file at a path; an empty string if there is none."""
    if not path.is_file() or path.is_symlink():
        return ""
    with path.open("rb") as stream:
        digest, _ = copyfileobj_with_hashing(stream, io.BytesIO(), "sha256")
    return _add_mode(digest, os.access(path, os.X_OK))


def unpack(context: Context, wheel: Wheel, root: Path) -> Laid:
    """Unpack a wheel into the tree below `root`; raise BuildError for an unusable one.

    Existing files are not overwritten: `share` resolves the duplicates.
    """
    tree, name = context.series.tree, canonicalize_name(wheel.distribution.name)
    scheme = {
        "purelib": context.site,
        "platlib": context.site,
        "headers": f"{tree}/include/{name}",
        "scripts": f"{tree}/bin",
        "data": tree,
    }
    homes = {k: v.removeprefix(tree).lstrip("/") for k, v in scheme.items()}
    destination = _Destination(scheme, f"{tree}/bin/python", "posix", destdir=str(root))
    with archives.open_zip(wheel.path, KIND) as archive, warnings.catch_warnings():
        # numpy's wheel contains stray byte code; installer rightly leaves it out
        warnings.filterwarnings("ignore", "Skip installing .*__pycache__", RuntimeWarning)
        source = Source(
            archive, wheel.path, homes | {"root": homes["purelib"]}, context.list_excluded(name)
        )
        try:
            install(source, destination, INSTALLER)
        except (InstallerError, *archives.UNREADABLE) as error:
            raise source.unreadable_error(error) from error
    files = tuple(file.lstrip("/") for file in destination.files)
    return Laid(
        root,
        files,
        binaries=tuple(elf.find(root, files, context.target.architecture)),
        left_out=tuple(f"{tree.lstrip('/')}/{place}" for place in source.left_out),
        again={file.lstrip("/"): digest for file, digest in destination.again.items()},
    )


def share(
    laid: Mapping[str, Laid],
    known: Sequence[Shared],
    owner: Callable[[Collection[str]], str],
) -> tuple[dict[str, Laid], tuple[Shared, ...], dict[frozenset[str], list[str]]]:
    """Assign each file of a tree to one package; return each wheel's files, and the shared ones.

    `laid` are the wheels of the tree, by canonical name; `known` are files shared with wheels
    that may not be in it. `owner` chooses one of the wheels that have an identical file. The
    third value is the conflicts: paths whose files differ, by the names of the wheels (a single
    name means a conflict with the tree's own files).
    """
    wanted: dict[str, list[str]] = {}
    for name in sorted(laid):
        for path in laid[name].again:
            wanted.setdefault(path, []).append(name)
    if not wanted and not known:
        return dict(laid), (), {}
    holder = {p: n for n, row in laid.items() for p in row.files}
    claims = {s.path: {s.owner, *s.others} for s in known}
    conflicts = dict[frozenset[str], list[str]]()
    for path, others in sorted(wanted.items()):
        first = holder.get(path)
        there = _hash_file(laid[others[0]].root / path) if first else ""
        for name in (n for n in others if laid[n].again[path] != there):
            both = frozenset({name, first or _find_obstacle(path, holder) or name})
            conflicts.setdefault(both, []).append(path)
        same = [n for n in others if laid[n].again[path] == there]
        if first and same:
            claims.setdefault(path, set()).update({first, *same})
    files = {name: dict.fromkeys(row.files) for name, row in laid.items()}
    shared = []
    for path, names in sorted(claims.items()):
        mine = owner(names)
        shared.append(Shared(path, mine, tuple(sorted(names - {mine}))))
        for name in names & files.keys():
            files[name].pop(path, None)
        if mine in files:
            files[mine][path] = None
    code = {path for row in laid.values() for path in row.binaries}
    rows = {
        name: replace(
            row,
            files=tuple(files[name]),
            binaries=tuple(sorted(code & files[name].keys())),
            again={},
        )
        for name, row in laid.items()
    }
    return rows, tuple(shared), conflicts


def _find_obstacle(path: str, holder: Mapping[str, str]) -> str:
    """Return the wheel with a file where `path` needs a directory, or the other way round."""
    for other, name in holder.items():
        if other.startswith(f"{path}/") or path.startswith(f"{other}/"):
            return name
    return ""


def lay_base(context: Context, root: Path) -> None:
    """Put the files and links of the tree's Python into the tree below `root`."""
    tree, minor = root / context.series.tree.lstrip("/"), context.target.python_minor
    (root / context.site.lstrip("/")).mkdir(parents=True, exist_ok=True)
    interpreter = (
        (
            ("python", tree / "bin/python", 0o755),
            ("site.py", tree / f"lib/python{minor}/site.py", 0o644),
        )
        if context.target.is_python2
        else (("pyvenv.cfg", tree / "pyvenv.cfg", 0o644),)
    )
    for name, path, mode in (
        *interpreter,
        ("compile-modules", tree / "libexec/compile-modules", 0o755),
    ):
        write_base(context, name, path, mode)
    lay_links(list_base_links(context), root)


def write_base(context: Context, name: str, path: Path, mode: int) -> None:
    """Render a template of the package that owns the tree's interpreter."""
    minor = context.target.python_minor
    values = {
        "interpreter": context.target.interpreter,
        "python_minor": minor,
        "site": context.site,
        "stdlib": f"/usr/lib/python{minor}",
        "tree": context.series.tree,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        render(context.templates, context.find_base_template(name), **values), encoding="utf-8"
    )
    path.chmod(mode)


def list_base_links(context: Context) -> dict[str, str]:
    """Return the links of the tree's interpreter.

    Python 2.7 has no virtual environments: it recognises its own directory by os.py and
    lib-dynload.
    """
    tree, target = context.series.tree, context.target
    minor = target.python_minor
    if target.is_python2:
        library = f"lib/python{minor}"
        return {
            f"{tree}/bin/python2": "python",
            f"{tree}/bin/python{minor}": "python",
            f"{tree}/{library}/os.py": f"/usr/{library}/os.py",
            f"{tree}/{library}/lib-dynload": f"/usr/{library}/lib-dynload",
        }
    return {
        f"{tree}/bin/python": target.interpreter,
        f"{tree}/bin/python3": "python",
        f"{tree}/bin/python{minor}": "python",
    }


def lay_links(links: Mapping[str, str], root: Path) -> None:
    """Make links below `root`; `links` maps each link's path on a node to its target."""
    for link, to in links.items():
        path = root / link.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)
