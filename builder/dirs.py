"""Where everything is: the project's data, the caches, the keys, the repository.

The data (`projects/`, `debian-templates/`) is next to the `builder` package in a checkout or an
editable install of one, and inside it in an installed copy; BUILD_DEBS_DATA names another place.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DataError, UsageError
from builder.files import explain_unusable, find_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Dirs:
    """The directory layout; only the first four need to exist.

    `share` has the manual page and completions, `program` is the `builder` package.
    `installed`: `projects` and `templates` are an installed copy's, where nothing is written.

    `cache` holds what can be rebuilt (`downloads`, `wheels` and `debs`, each keyed by
    content, build `roots` and `logs`); `work` what is needed only during a run; `keys`
    holds the signing keys, which cannot be recreated, and is never inside `repo`.
    """

    projects: Path
    templates: Path
    share: Path
    program: Path
    cache: Path
    downloads: Path
    wheels: Path
    debs: Path
    roots: Path
    logs: Path
    keys: Path
    repo: Path
    work: Path
    installed: bool = False
    overlays: tuple[Path, ...] = ()

    @property
    def layers(self) -> tuple[Path, ...]:
        """The data directories, the one that takes precedence first."""
        return (*reversed(self.overlays), self.projects)

    @property
    def written(self) -> Path:
        """Where verbs write data: the last overlay, or `projects`."""
        return self.layers[0]

    def locate_lock(self, name: str) -> Path:
        """Return the lock of that name, from the last overlay that has it, or the project's own."""
        return find_first([root / "locks" / f"{name}.json" for root in self.layers])

    def list_locks(self) -> list[str]:
        """Return the names of all locks."""
        return sorted({p.stem for root in self.layers for p in (root / "locks").glob("*.json")})


def locate(env: Mapping[str, str] = os.environ, overlays: Sequence[Path] = ()) -> Dirs:
    """Return the layout for this environment (XDG base directory specification).

    The colon-separated BUILD_DEBS_OVERLAY comes below `overlays`. Raises DataError if the
    project's data is missing. Nothing is created.
    """
    own = Path(__file__).resolve().parent
    installed = not env.get("BUILD_DEBS_DATA") and (own / "data").is_dir()
    data = own / "data" if installed else Path(env.get("BUILD_DEBS_DATA") or own.parent)
    if not (data / "projects").is_dir():
        raise DataError(
            f"{data}: no projects/ directory",
            hint="run from a checkout, or set BUILD_DEBS_DATA to one",
        )
    _check_places(env)
    home = Path(env.get("HOME") or _find_home())
    cache_home = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    data_home = Path(env.get("XDG_DATA_HOME") or home / ".local/share")
    cache = Path(env.get("BUILD_DEBS_CACHE") or cache_home / "build-debs").absolute()
    return Dirs(
        projects=data / "projects",
        templates=data / "debian-templates",
        share=find_first([own / "data/share", own.parent / "docs/share"]),
        program=own,
        cache=cache,
        downloads=cache / "downloads",
        wheels=cache / "wheels",
        debs=cache / "debs",
        roots=cache / "roots",
        logs=cache / "logs",
        keys=(data_home / "build-debs/keys").absolute(),
        repo=Path("repo").absolute() if installed else data / "repo",
        work=choose_work_area(env),
        installed=installed,
        overlays=(*_list_overlays(env), *(path.absolute() for path in overlays)),
    )


def _list_overlays(env: Mapping[str, str]) -> list[Path]:
    found = [Path(word).absolute() for word in env.get("BUILD_DEBS_OVERLAY", "").split(":") if word]
    for path in found:
        if not path.is_dir():
            raise UsageError(f"BUILD_DEBS_OVERLAY: {path} is not a directory")
    return found


def _check_places(env: Mapping[str, str]) -> None:
    """Raise UsageError for a variable that names an unusable place.

    An empty variable counts as unset (XDG base directory specification).
    """
    for name in ("BUILD_DEBS_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME"):
        value = env.get(name, "")
        if value and (problem := explain_unusable(value)):
            raise UsageError(f"{name}: {problem}")
        # Below the current directory the next run would not find it.
        if value and not value.startswith("/"):
            raise UsageError(f"{name}: {value!r} is not an absolute path")
    if env.get("TMPDIR") and not Path(env["TMPDIR"]).is_dir():
        raise UsageError(f"TMPDIR: {env['TMPDIR']!r} is not a directory")


def _find_home() -> Path:
    """Return the account's home; HOME may be unset (cron, systemd) or empty."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise UsageError(
            "HOME is not set, and the account has no home", hint="set HOME, or BUILD_DEBS_CACHE"
        ) from error


def choose_work_area(env: Mapping[str, str], memory: Path = Path("/dev/shm")) -> Path:  # noqa: S108
    """Return where packages are laid out before they are packed.

    TMPDIR if it is set. Else memory if 4 GiB of it are free: for thousands of small files it
    takes half the system time of a disk. Else /tmp.
    """
    if env.get("TMPDIR"):
        return Path(env["TMPDIR"])
    if memory.is_dir() and os.access(memory, os.W_OK):
        state = os.statvfs(memory)
        if state.f_bavail * state.f_frsize >= 4 << 30 and not state.f_flag & os.ST_NOEXEC:
            return memory
    return Path(tempfile.gettempdir())
