"""The command line. `build-debs RELEASE` builds; the other words are verbs around it.

Only this module exits. Logs go to stderr, data to stdout.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from builder import __version__, given, log, roots, run
from builder.errors import BuildDebsError, DataError, UsageError, list_nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.dirs import Dirs
    from builder.model.values import Catalogue, Series, Target
    from builder.pipeline.values import Options, Result

EXIT_INCOMPLETE = 10
VERB_LIKE = 0.6  # difflib ratio from which a word counts as a mistyped verb
# Errors the user can fix: a full disk, a permission, a file where a directory belongs.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


class Verbs(click.Group):
    """A group whose first word is a verb, or else the release to build."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Treat a word that is not a verb as the argument of `build`."""
        if args and args[0] not in self.commands:
            self._check_mistyped(args[0])
            args = ["build", *args]
        return super().resolve_command(ctx, args)

    def _check_mistyped(self, word: str) -> None:
        """Raise UsageError for a word that looks like a verb but is not a release."""
        if not difflib.get_close_matches(word.lower(), self.commands, cutoff=VERB_LIKE):
            return
        _, catalogue = load_setting()
        from builder.catalogue import load  # noqa: PLC0415 - not needed for `--help`

        releases = load.index_series(catalogue)
        if word.lower() not in releases:
            near = list_nearest(word, {*self.commands, *releases})
            raise UsageError(f"{word!r} is neither a verb nor a release; nearest: {near}")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the releases in addition to the verbs."""
        releases = _complete_release(ctx, None, incomplete)
        return [*super().shell_complete(ctx, incomplete), *map(CompletionItem, releases)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Allow options before the release, as in `build-debs -v 2026.1`."""
        own = {"-h", "--help", "--version"}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["build", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; a reader that closes stdout early (`| head -1`) is not a failure."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None
        return done


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 2 usage; 3 data or lock; 4 conflict; 5 fetch; 6 build; "
    "7 repository; 8 missing tool or library; 9 busy; 10 incomplete (--keep-going).",
)
@click.version_option(__version__, prog_name="build-debs")
def cli() -> None:
    """Turn an OpenStack release into a signed apt repository.

    `build-debs RELEASE` builds it; RELEASE is a series id (2026.1) or code name (gazpacho).
    `build-debs build --help` lists the options of a build.
    """


def add_verbosity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v and -q."""
    function = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=_make_level_callback(2),
        help="Report each package.",
    )(function)  # fmt: skip
    return click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_make_level_callback(0),
        help="Report only warnings and errors.",
    )(function)  # fmt: skip


def _make_level_callback(level: int) -> Callable[[click.Context, click.Parameter, bool], None]:
    def choose(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            log.set_level(level)

    return choose


def _make_completer(names: Callable[[Catalogue], Iterable[str]]) -> Callable[..., list[str]]:
    """Return a completer for words of the catalogue; it offers nothing if data is unreadable."""

    def complete(_ctx: click.Context, _param: click.Parameter | None, begun: str) -> list[str]:
        with suppress(BuildDebsError):
            return sorted({name for name in names(load_setting()[1]) if name.startswith(begun)})
        return []

    return complete


def _list_release_words(catalogue: Catalogue) -> Iterable[str]:
    return [word for s in catalogue.series.values() for word in (s.id, s.name.lower())]


_complete_release = _make_completer(_list_release_words)
_complete_service = _make_completer(lambda catalogue: catalogue.services)
_complete_target = _make_completer(lambda catalogue: catalogue.targets)
TARGET = click.option(
    "--target", metavar="SUITE", shell_complete=_complete_target,
    help="Debian suite (default: this machine's).",
)  # fmt: skip
REPO = click.option(
    "--repo", callback=given.make_writable_check(), metavar="DIR",
    help="Repository directory (default: repo/).",
)  # fmt: skip
CONSTRAINTS = click.option(
    "--constraints",
    callback=given.make_source_check(),
    metavar="FILE|URL",
    help="Resolve with these upper-constraints.",
)
OVERRIDE = click.option(
    "--override", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Requirements, one per line, that replace pins.",
)  # fmt: skip
KEY = click.option(
    "--key", callback=given.check_word, metavar="ID",
    help="Sign with this key from your GnuPG home (GNUPGHOME; default: the repository's key).",
)  # fmt: skip
TARBALLS = click.option(
    "--tarballs",
    callback=given.make_source_check(directory=True),
    metavar="DIR|URL",
    help="Look for release tarballs here first.",
)


def _keep_overlays(ctx: click.Context, _: click.Parameter, value: tuple[Path, ...]) -> None:
    ctx.meta[OVERLAYS] = value


OVERLAYS = "overlays"
OVERLAY = click.option(
    "--overlay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    expose_value=False,
    callback=_keep_overlays,
    metavar="DIR",
    help="Lay this directory over projects/ (repeatable, the last wins; BUILD_DEBS_OVERLAY).",
)


def load_setting() -> tuple[Dirs, Catalogue]:
    """Return the directory layout and the catalogue, with the command line's overlays applied."""
    from builder import dirs  # noqa: PLC0415 - not needed for `--help`
    from builder.catalogue import load as catalogue  # noqa: PLC0415 - not needed for `--help`

    os.umask(0o022)  # packaged files are readable whatever the caller's umask
    context = click.get_current_context(silent=True)  # None during shell completion
    places = dirs.locate(overlays=context.meta.get(OVERLAYS, ()) if context else ())
    if context:
        for path in _list_overlay_files(places):
            log.info(f"overlay: {path}")
    return places, catalogue.load(places.projects, places.overlays)


def _list_overlay_files(dirs: Dirs) -> list[str]:
    from builder.catalogue.layers import Layers  # noqa: PLC0415 - not needed for `--help`

    return Layers((dirs.projects, *dirs.overlays)).list_overlay_files()


def choose_series(catalogue: Catalogue, release: str, target: str | None) -> tuple[Series, Target]:
    """Return the series and the target the user named."""
    from builder.catalogue import load as catalogues  # noqa: PLC0415

    series = catalogues.find_series(catalogue, release)
    return series, catalogues.find_target(catalogue, series, target)


@cli.command()
@OVERLAY
@click.argument("release", shell_complete=_complete_release)
@click.option(
    "--project", "projects", multiple=True, shell_complete=_complete_service,
    help="Build this service only (repeatable).",
)  # fmt: skip
@TARGET
@REPO
@click.option(
    "--jobs",
    type=click.IntRange(1, given.MOST_JOBS),
    help="Parallel builds (default: one per core).",
)
@TARBALLS
@CONSTRAINTS
@OVERRIDE
@click.option("--offline", is_flag=True, help="Use only the cache.")
@click.option("--dry-run", is_flag=True, help="Print the plan to stdout and exit.")
@click.option("--keep-going", is_flag=True, help="Leave out what fails and publish the rest.")
@click.option(
    "--report", callback=given.make_writable_check(file=True), metavar="FILE",
    help="Write a JSON report of what was done or went wrong.",
)  # fmt: skip
@click.option("--url", help="Repository URL for nodes that are not given one.")
@KEY
@click.option(
    "--new-key", is_flag=True,
    help="Sign with a key other than the suite's current one: --key's, or a new one. You must "
    "distribute it to the nodes.",
)  # fmt: skip
@click.option(
    "--trust-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Make nodes trust this public key as well, before the suite switches to it.",
)  # fmt: skip
@click.option(
    "--keyring", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Keys for checking the signatures of release tarballs.",
)  # fmt: skip
@click.option(
    "--root-age", type=float, callback=given.check_days, default=roots.DAYS, show_default=True,
    metavar="DAYS", help="Rebuild a build root older than this.",
)  # fmt: skip
@add_verbosity
def build(  # noqa: PLR0917 - click passes an option a parameter
    release: str,
    projects: tuple[str, ...],
    target: str | None,
    repo: Path | None,
    jobs: int | None,
    tarballs: str | None,
    constraints: str | None,
    override: Path | None,
    offline: bool,
    dry_run: bool,
    keep_going: bool,
    report: Path | None,
    url: str | None,
    key: str | None,
    new_key: bool,
    trust_key: Path | None,
    keyring: Path | None,
    root_age: float,
) -> None:
    """Build RELEASE into a repository (the verb is optional)."""
    from builder import reports  # noqa: PLC0415
    from builder.catalogue import load as catalogues  # noqa: PLC0415
    from builder.debs.archive import check_url  # noqa: PLC0415
    from builder.pipeline import running  # noqa: PLC0415
    from builder.pipeline.values import Options  # noqa: PLC0415

    with reports.open_report(report) as made:
        if url is not None:
            check_url(url)
        dirs, catalogue = load_setting()
        series, suite = choose_series(catalogue, release, target)
        options = Options(
            series=series,
            target=suite,
            services=_choose_services(catalogue, series, projects),
            repo=(repo or dirs.repo).absolute(),
            jobs=jobs or len(os.sched_getaffinity(0)),
            url=url or "",
            tarballs=tarballs,
            constraints=constraints,
            override=override,
            offline=offline,
            keep_going=keep_going,
            key=key or "",
            new_key=new_key,
            trust_key=trust_key,
            keyring=keyring,
            root_days=root_age,
        )
        made.facts |= {
            "series": series.id,
            "target": suite.suite,
            "repository": str(options.repo),
            "overlays": _list_overlay_files(dirs),
        }
        if dry_run:
            _show_plan(catalogue, dirs, options)
            return
        with log.show_step(f"{series.id} on {suite.suite}"):
            result = running.run(catalogue, dirs, options, catalogues.find_machine_suite())
        _summarise(result, options)
        made.facts |= running.describe_result(result)
        made.failures += result.failures
        for failure in result.failures:
            _say(failure)
            made.exit_code = EXIT_INCOMPLETE
    if made.exit_code:
        sys.exit(made.exit_code)


def _choose_services(
    catalogue: Catalogue, series: Series, projects: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the services to build: those that were named, or all of the series."""
    from builder.catalogue import load as catalogues  # noqa: PLC0415

    names = [catalogues.find_service(catalogue, p).name for p in projects]
    for name in names:
        if name not in series.versions:
            raise UsageError(
                f"{name} is not part of {series.id}; it has: {', '.join(series.versions)}"
            )
    return tuple(sorted(names or series.versions))


def _show_plan(catalogue: Catalogue, dirs: Dirs, options: Options) -> None:
    from builder.pipeline import actions as plan  # noqa: PLC0415
    from builder.pipeline import planning  # noqa: PLC0415

    with log.show_step(f"plan {options.series.id} on {options.target.suite}"):
        actions = planning.prepare(catalogue, dirs, options).actions
    for action in sorted(actions, key=lambda a: a.package):
        click.echo(f"{action.verb}\t{action.package}\t{action.version}\t{action.reason}")
    log.info(f"{options.series.id} on {options.target.suite}: {plan.summarise(actions)}")


def _summarise(result: Result, options: Options) -> None:
    counts: dict[str, int] = {}
    for row in result.rows:
        counts[row.outcome] = counts.get(row.outcome, 0) + 1
    done = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
    log.info(f"{options.series.id} on {options.target.suite}: {done}; repository {options.repo}")


def _check_writable(dirs: Dirs) -> None:
    """Raise UsageError for an installed copy, whose data must not be written to."""
    if dirs.installed and not dirs.overlays:
        raise UsageError(
            f"{dirs.projects} is part of an installed copy of build-debs, which is never modified",
            hint="pass a directory of your own with --overlay, or set BUILD_DEBS_DATA to a copy of "
            f"{dirs.projects.parent}",
        )


@cli.command()
@OVERLAY
@click.argument("release", shell_complete=_complete_release)
@TARGET
@click.option(
    "--service",
    "services",
    multiple=True,
    shell_complete=_complete_service,
    metavar="NAME[==VERSION]",
    help="Resolve only this service, new or not; keep the rows of all others (repeatable).",
)
@CONSTRAINTS
@TARBALLS
@add_verbosity
def lock(
    release: str,
    target: str | None,
    services: tuple[str, ...],
    constraints: str | None,
    tarballs: str | None,
) -> None:
    """Resolve RELEASE again and write its lock below projects/locks/."""
    from builder.catalogue import upstream  # noqa: PLC0415
    from builder.pipeline import locking  # noqa: PLC0415
    from builder.resolve import lockfile as locks  # noqa: PLC0415

    dirs, catalogue = load_setting()
    _check_writable(dirs)
    series, suite = choose_series(catalogue, release, target)
    path = locking.locate_lock(dirs, series, suite)
    output = dirs.written / "locks" / path.name
    old = {}
    if path.exists():
        with suppress(DataError):  # this verb is the remedy for a damaged lock
            old = {d.name: d.version for d in locks.read(path).distributions}
    known = series
    with log.show_step(f"lock {series.id} on {suite.suite}"):
        series = locking.choose_versions(catalogue, series, services)
        made = locking.make_lock(
            catalogue,
            dirs,
            series,
            suite,
            services=[word.partition("==")[0].lower() for word in services],
            constraints=constraints,
            tarballs=tarballs,
        )
    if series != known:
        upstream.write_versions(dirs.written, series, known)
    output.parent.mkdir(exist_ok=True)
    changed = locks.write(made, output)
    new = {d.name: d.version for d in made.distributions}
    for name in sorted(old.keys() | new.keys(), key=str.lower):
        if old.get(name) != new.get(name):
            click.echo(f"{name}\t{old.get(name, '-')}\t{new.get(name, '-')}")
    log.info(f"{path.name}: {len(new)} distributions{'' if changed else ', unchanged'}")


@cli.command()
@OVERLAY
@click.argument("release", shell_complete=_complete_release)
@click.argument("distribution")
@TARGET
@add_verbosity
def why(release: str, distribution: str, target: str | None) -> None:
    """Explain why DISTRIBUTION is in RELEASE, and who requires it."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    from builder.catalogue import load as catalogues  # noqa: PLC0415
    from builder.model import graph  # noqa: PLC0415
    from builder.pipeline import locking  # noqa: PLC0415

    dirs, catalogue = load_setting()
    series, suite = choose_series(catalogue, release, target)
    locked = locking.read_committed_lock(dirs, series, suite)
    known = graph.index_by_name(locked)
    row = known.get(canonicalize_name(distribution))
    if row is None:
        raise UsageError(
            f"{distribution} is not in {series.id} on {suite.suite}; nearest: "
            f"{list_nearest(distribution, known)}"
        )
    click.echo(f"{row.name} {row.version} ({row.artifacts[0].file})")
    click.echo("because: " + " → ".join(row.reason))
    pins = {
        canonicalize_name(o.requirement.split("=")[0]): f"project override: {o.reason}"
        for o in catalogues.select_overrides(catalogue, series).override
    }
    release = "the release" if row.kind == "service" else "upper-constraints"
    click.echo(f"pinned by: {pins.get(canonicalize_name(row.name), release)}")
    for parent, text in graph.find_dependents(locked, row.name):
        click.echo(f"required by {parent.name} {parent.version}: {text}")


@cli.command()
@OVERLAY
@click.argument("before", metavar="FROM", shell_complete=_complete_release)
@click.argument("after", metavar="TO", shell_complete=_complete_release)
@TARGET
@REPO
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_verbosity
def diff(before: str, after: str, target: str | None, repo: Path | None, as_json: bool) -> None:
    """Show what changes from the release FROM to TO on a Debian suite.

    Options are compared if both are built, using the packages in the repository.
    """
    from builder import diff as diffs  # noqa: PLC0415
    from builder.catalogue import load as catalogues  # noqa: PLC0415
    from builder.pipeline.comparing import describe_side  # noqa: PLC0415

    dirs, catalogue = load_setting()
    old, new = (catalogues.find_series(catalogue, word) for word in (before, after))
    if old == new:
        raise UsageError(f"{before} and {after} are the same series: nothing to compare")
    old_target, new_target = catalogues.find_shared_target(catalogue, old, new, target)
    place = (repo or dirs.repo).absolute()
    with log.show_step(f"compare {old.id} and {new.id}"):
        found = diffs.compare(
            describe_side(catalogue, dirs, old, old_target, place),
            describe_side(catalogue, dirs, new, new_target, place),
            new_target.suite,
        )
    if as_json:
        click.echo(json.dumps(diffs.make_table(found), indent=1, ensure_ascii=False))
        return
    given = f" --repo {repo}" if repo else ""
    for line in diffs.render_lines(found, given):
        click.echo(line)


@cli.command(name="list")
@OVERLAY
def list_releases() -> None:
    """List the releases with their status, targets, locks, and what is proven on each target."""
    dirs, catalogue = load_setting()
    made = set(dirs.list_locks())
    for series in sorted(catalogue.series.values(), key=lambda s: s.date):
        targets = [
            f"{t}{'' if f'{series.id}-{t}' in made else ' (no lock)'}" for t in series.targets
        ]
        slurp = "slurp" if series.slurp else "-"
        proofs = [p for p in catalogue.proofs if p.series == series.id]
        proven = [
            f"{target}: {', '.join(p.cell for p in proofs if p.target == target)}"
            for target in dict.fromkeys(p.target for p in proofs)
        ]
        row = [series.id, series.name, series.date, slurp, series.status, ", ".join(targets)]
        click.echo("\t".join([*row, "; ".join(proven) or "-"]))


@cli.command(name="update-series")
@OVERLAY
@click.argument("source")
@click.argument("releases", nargs=-1)
@add_verbosity
def update_series(source: str, releases: tuple[str, ...]) -> None:
    """Rewrite projects/series from upstream's releases repository (a checkout or a URL)."""
    from builder import dirs  # noqa: PLC0415
    from builder.catalogue import upstream  # noqa: PLC0415

    places = dirs.locate(overlays=click.get_current_context().meta[OVERLAYS])
    _check_writable(places)
    with log.show_step(f"read the releases of {source}"):
        changed = upstream.regenerate(source, places.projects, releases or None, places.overlays)
    for path in changed:
        click.echo(path.name)
    log.info(f"{len(changed)} series changed")


@cli.group()
def repo() -> None:
    """Manage a repository."""


@repo.command(name="list")
@click.argument("suite", required=False)
@REPO
def repo_list(suite: str | None, repo: Path | None) -> None:
    """List the suites, or the packages of SUITE."""
    from builder import publish  # noqa: PLC0415

    place = _locate_repository(repo)
    if suite is None:
        for row in publish.list_suites(place):
            click.echo(
                f"{row.name}\t{row.binaries} packages\t{row.sources} sources\t"
                f"{row.size >> 20} MiB\t{row.date}"
            )
        return
    for entry in publish.list_packages(place, suite):
        click.echo(f"{entry.package}\t{entry.version}\t{entry.architecture}")


@repo.command()
@REPO
def verify(repo: Path | None) -> None:
    """Check every file and signature of the repository."""
    from builder import publish  # noqa: PLC0415
    from builder.errors import PublishError  # noqa: PLC0415

    place = _locate_repository(repo)
    with log.show_step(f"verify {place}"):
        problems = publish.verify(place)
    if problems:
        raise PublishError(f"{place}: {len(problems)} problems", details=problems)
    log.info(f"{place}: every file matches the signed indices")


@repo.command()
@click.argument("suite")
@click.option("--keep", default=2, type=click.IntRange(1), help="Versions to keep of each package.")
@KEY
@REPO
def prune(suite: str, keep: int, key: str | None, repo: Path | None) -> None:
    """Remove old versions of packages from SUITE."""
    from builder import dirs, publish  # noqa: PLC0415

    place = _locate_repository(repo)
    publish.list_packages(place, suite)  # raises if there is no such suite
    signer = publish.choose(place, suite, dirs.locate().keys, key=key or "")
    with log.show_step(f"prune {suite}"):
        gone = publish.prune(place, suite, keep, signer=signer)
    for name in gone:
        click.echo(name)


@repo.command()
@click.argument("suite")
@click.argument("package")
@click.argument("version", default="")
@KEY
@REPO
def remove(suite: str, package: str, version: str, key: str | None, repo: Path | None) -> None:
    """Remove PACKAGE (one VERSION, or all) from SUITE."""
    from builder import dirs, publish  # noqa: PLC0415

    place = _locate_repository(repo)
    publish.list_packages(place, suite)  # raises if there is no such suite
    signer = publish.choose(place, suite, dirs.locate().keys, key=key or "")
    with log.show_step(f"remove {package} from {suite}"):
        gone = publish.remove(place, suite, package, version, signer=signer)
    for name in gone:
        click.echo(name)


@repo.command(name="key")
@KEY
def repo_key(key: str | None) -> None:
    """Print the public key that new repositories are signed with; it is created on first use."""
    from builder import dirs, publish  # noqa: PLC0415

    own = publish.Signer.open
    signer = publish.Signer.find_existing(key) if key else own(dirs.locate().keys)
    click.echo(signer.export_key().decode(), nl=False)


def _locate_repository(repo: Path | None) -> Path:
    from builder import dirs  # noqa: PLC0415

    return (repo or dirs.locate().repo).absolute()


def _say(error: BuildDebsError) -> None:
    lines = [f"error: {error.message}", *(f"  {line}" for line in error.details)]
    lines += [f"hint: {error.hint}"] if error.hint else []
    log.write("".join(f"{line}\n" for line in lines))


def main() -> None:
    """Run the command line and exit with its code, or that of the error."""
    run.restart_in_utf8()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        with suppress(BrokenPipeError):
            error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except BuildDebsError as error:
        _say(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # any stage may hit a full disk or a missing permission; partial files are already removed
        if error.errno not in DISK:
            raise
        place = f": {error.filename}" if error.filename else ""
        elsewhere = "another place for the cache or the repository (BUILD_DEBS_CACHE, --repo)"
        do = "free space, or choose" if error.errno in FULL else "change that, or choose"
        _say(BuildDebsError(f"{error.strerror}{place}", hint=f"{do} {elsewhere}"))
        sys.exit(BuildDebsError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
