"""What differs between two series on one Debian suite, for planning an upgrade.

`compare` takes two `Side`s, which `pipeline.describe_side` assembles, and returns a `Diff`;
`render_lines` and `make_table` format it for people and for programs. Nothing here reads a file.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from builder.model.values import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from builder.model.values import KnownOptions, Lock, Series

WIDTH = 78  # of a terminal
MANY = 60  # options of a section; of more, only the number is shown
LONG = 60  # characters of a default
GLUE = "\N{NO-BREAK SPACE}"  # textwrap does not break lines there
HEADINGS = {
    "packages": "packages",
    "units": "units",
    "accounts": "users and groups",
    "directories": "directories",
    "sudoers": "sudoers",
    "files": "configuration files",
    "presets": "options the packages set",
}
NOTHING = Footprint(*[{} for _ in HEADINGS])


@dataclass(frozen=True, slots=True)
class ServiceSide:
    """A service in one series; `options` is None if no package lists them."""

    version: str
    footprint: Footprint
    options: KnownOptions | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """A series on the target: its services by name, its libraries' versions by PEP 503 name."""

    series: Series
    python: str
    services: Mapping[str, ServiceSide]
    libraries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What `name` is before and after; None on the side where it is absent."""

    name: str
    before: str | None
    after: str | None


Option = tuple[str, str]
"""A section and a name."""
Pair = tuple[Option, Option]
"""An option as it was, and as it is."""


@dataclass(frozen=True, slots=True)
class OptionChanges:
    """How the options of a service change.

    `renamed`: an option with a new name; its old name is still read.
    `moved`: an option from another section; its old place may not be read.
    `forgotten`: a former name that is no longer read, and the option it stood for, if that
    still exists. `deprecated`: newly deprecated; still read, to be removed. `defaults`: an
    option's value when unset, before and after; empty if a package does not list it.
    """

    added: tuple[Option, ...] = ()
    removed: tuple[Option, ...] = ()
    renamed: tuple[Pair, ...] = ()
    moved: tuple[Pair, ...] = ()
    forgotten: tuple[tuple[Option, Option | None], ...] = ()
    deprecated: tuple[Option, ...] = ()
    defaults: tuple[tuple[Option, str | None, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceDiff:
    """A service; `sections` has the changes by field of Footprint.

    `options` is None if they are not compared.
    """

    version: Change
    sections: Mapping[str, tuple[Change, ...]]
    options: OptionChanges | None


@dataclass(frozen=True, slots=True)
class Diff:
    """All that changes from one side to the other.

    `unbuilt`: series to its services whose options are unknown, and so not compared.
    """

    target: str
    before: Side
    after: Side
    services: tuple[ServiceDiff, ...]
    dependencies: tuple[Change, ...]
    unbuilt: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def list_libraries(lock: Lock) -> dict[str, str]:
    """Return the versions of all but the services of a lock, by PEP 503 name."""
    rows = (d for d in lock.distributions if d.kind != "service")
    return {canonicalize_name(d.name): d.version for d in rows}


def compare(before: Side, after: Side, target: str) -> Diff:
    """Return what changes from `before` to `after`, both on the Debian suite `target`."""
    names = sorted({*before.services, *after.services})
    both = [n for n in names if n in before.services and n in after.services]
    unbuilt = {
        side.series.id: tuple(n for n in both if side.services[n].options is None)
        for side in (before, after)
    }
    return Diff(
        target,
        before,
        after,
        tuple(_compare_service(n, before.services.get(n), after.services.get(n)) for n in names),
        list_changes(before.libraries, after.libraries),
        {id_: services for id_, services in unbuilt.items() if services},
    )


def list_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """Return the names whose values differ between two tables, in order."""
    names = sorted({*before, *after})
    rows = (Change(n, before.get(n), after.get(n)) for n in names)
    return tuple(row for row in rows if row.before != row.after)


def _compare_service(
    name: str, before: ServiceSide | None, after: ServiceSide | None
) -> ServiceDiff:
    old = before.footprint if before else NOTHING
    new = after.footprint if after else NOTHING
    known = before.options if before else None, after.options if after else None
    return ServiceDiff(
        Change(name, before.version if before else None, after.version if after else None),
        {part: list_changes(getattr(old, part), getattr(new, part)) for part in HEADINGS},
        compare_options(known[0], known[1]) if known[0] and known[1] else None,
    )


def compare_options(before: KnownOptions, after: KnownOptions) -> OptionChanges:
    """Return how options change; `-` and `_` are equal in names, as in oslo.config."""
    old, new = _flatten(before.options), _flatten(after.options)
    were, are = _list_former(before), _list_former(after)
    gone = old.keys() - new.keys()
    renamed = {option: are[option] for option in gone if option in are}
    moved = _find_moved(gone - renamed.keys(), new.keys() - old.keys() - set(renamed.values()))
    now = {**renamed, **moved}
    then = {new: old for old, new in now.items()}
    forgotten = {}
    for option in were.keys() - are.keys() - new.keys():
        # Since oslo.config 4, samples omit a former section if the name is unchanged, so they
        # cannot show that such a place is no longer read.
        if option[1] != were[option][1]:
            heir = now.get(were[option], were[option])
            forgotten[option] = heir if heir in new else None
    return OptionChanges(
        added=tuple(sorted(new.keys() - old.keys() - then.keys())),
        removed=tuple(sorted(gone - now.keys())),
        renamed=tuple(sorted(renamed.items())),
        moved=tuple(sorted(moved.items())),
        forgotten=tuple((option, forgotten[option]) for option in sorted(forgotten)),
        deprecated=tuple(
            sorted(o for o in new if "d" in new[o] and "d" not in old.get(then.get(o, o), ""))
        ),
        defaults=tuple(_compare_defaults(before, after, then)),
    )


def _compare_defaults(
    before: KnownOptions, after: KnownOptions, then: Mapping[Option, Option]
) -> Iterator[tuple[Option, str | None, str | None]]:
    """Yield the options on both sides whose default changes; `then` has former names."""
    if before.defaults is None or after.defaults is None:
        return
    old, new = _flatten(before.options), _flatten(after.options)
    was, is_ = _flatten(before.defaults), _flatten(after.defaults)
    for option in sorted(new):
        former = then.get(option, option)
        if former in old and "v" not in new[option] + old[former]:
            values = was.get(former), is_.get(option)
            if values[0] != values[1]:
                yield option, *values


def _find_moved(gone: AbstractSet[Option], added: AbstractSet[Option]) -> dict[Option, Option]:
    """Return the options that moved from one section to one other under the same name."""
    left, came = dict[str, list[Option]](), dict[str, list[Option]]()
    for found, options_ in ((left, gone), (came, added)):
        for option in options_:
            found.setdefault(option[1], []).append(option)
    return {
        places[0]: came[name][0]
        for name, places in left.items()
        if len(places) == len(came.get(name, ())) == 1
    }


def _list_former(known: KnownOptions) -> dict[Option, Option]:
    """Return the former names of options."""
    found = {}
    for option, text in _flatten(known.renamed).items():
        section, _, name = text.removeprefix("[").partition("] ")
        found[option] = section, name.replace("-", "_")
    return found


def _flatten(sections: Mapping[str, Mapping[str, str]]) -> dict[Option, str]:
    return {
        (section, name.replace("-", "_")): value
        for section, names in sections.items()
        for name, value in names.items()
    }


def _render_option(option: Option) -> str:
    return f"[{option[0]}] {option[1]}"


# -- for programs


def make_table(diff: Diff) -> dict[str, Any]:
    """Return a Diff as JSON-compatible values; a section without changes is an empty list."""
    return {
        "target": diff.target,
        "from": _make_head(diff.before),
        "to": _make_head(diff.after),
        "services": {
            service.version.name: {
                "version": {"from": service.version.before, "to": service.version.after},
                **{part: list(map(_make_row, rows)) for part, rows in service.sections.items()},
                "options": None if service.options is None else _make_option_table(service.options),
            }
            for service in diff.services
        },
        "dependencies": list(map(_make_row, diff.dependencies)),
        "options_unknown": {id_: list(names) for id_, names in diff.unbuilt.items()},
    }


def _make_head(side: Side) -> dict[str, str]:
    s = side.series
    return {"series": s.id, "name": s.name, "date": s.date, "python": side.python, "tree": s.tree}


def _make_row(change: Change) -> dict[str, str | None]:
    return {"name": change.name, "from": change.before, "to": change.after}


def _make_option_table(found: OptionChanges) -> dict[str, Any]:
    return {
        "added": list(map(_render_option, found.added)),
        "removed": list(map(_render_option, found.removed)),
        "renamed": {_render_option(old): _render_option(new) for old, new in found.renamed},
        "moved": {_render_option(old): _render_option(new) for old, new in found.moved},
        "forgotten": {
            _render_option(old): new and _render_option(new) for old, new in found.forgotten
        },
        "deprecated": list(map(_render_option, found.deprecated)),
        "defaults": {_render_option(o): {"from": old, "to": new} for o, old, new in found.defaults},
    }


# -- for people


def render_lines(diff: Diff, given: str = "") -> Iterator[str]:
    """Yield a Diff as text: a heading per service, and only what changes.

    The first line fits the subject of a commit message, and no line begins with `#`.
    `given` is appended to the commands that build what is missing for comparing options.
    """
    before, after = diff.before, diff.after
    yield f"OpenStack {before.series.id} → {after.series.id} on {diff.target}"
    yield ""
    for side in (before, after):
        s = side.series
        name = f" ({s.name})" if s.name != s.id else ""
        yield f"{s.id}{name}, {s.date}: Python {side.python}, {{tree}} is {s.tree}"
    if diff.unbuilt:
        commands = "; ".join(_render_command(diff, id_) + given for id_ in diff.unbuilt)
        yield f"Options are compared only if both series are built: {commands}"
    yield ""
    yield "services"
    yield from _render_aligned([service.version for service in diff.services])
    for service in diff.services:
        own = list(_render_service(service))
        if own:
            yield from ("", service.version.name, *own)
    if diff.dependencies:
        yield from ("", f"dependencies, packages openstack-{after.series.id}-<name>")
        yield from _render_dependencies(diff.dependencies)


def _render_command(diff: Diff, series: str) -> str:
    """Return the command that builds what is missing of a series: some services, or all."""
    side = diff.before if diff.before.series.id == series else diff.after
    partly = any(s.options for s in side.services.values())
    words = [f"--project {name}" for name in diff.unbuilt[series]] if partly else []
    return " ".join(["build-debs", series, "--target", diff.target, *words])


def _render_aligned(rows: Sequence[Change]) -> Iterator[str]:
    width = max((len(row.name) for row in rows), default=0) + 2
    yield from (
        f"  {_choose_sign(row)} {_render_change(row, ' ' * (width - len(row.name)))}"
        for row in rows
    )


def _choose_sign(change: Change) -> str:
    if change.before is None:
        return "+"
    if change.after is None:
        return "-"
    return "~" if change.before != change.after else "="


def _render_change(change: Change, link: str) -> str:
    values = dict.fromkeys(v for v in (change.before, change.after) if v)
    return f"{change.name}{link}{' → '.join(values)}" if values else change.name


def _render_service(service: ServiceDiff) -> Iterator[str]:
    for part, rows in service.sections.items():
        if rows:
            yield f"  {HEADINGS[part]}"
            link = " = " if part == "presets" else "  "
            yield from (f"    {_choose_sign(row)} {_render_change(row, link)}" for row in rows)
    if service.options:
        yield from _render_options(service.options)


def _render_options(found: OptionChanges) -> Iterator[str]:
    yield from _render_names("options added", found.added, brief=True)
    yield from _render_names("options removed", found.removed)
    yield from _render_names("options newly deprecated, to be removed", found.deprecated)
    yield from _render_pairs("options renamed, the old name is still read", found.renamed)
    yield from _render_pairs(
        "options moved to another section, set them there", found.moved, brief=True
    )
    yield from _render_pairs("former names that are no longer read", found.forgotten)
    if found.defaults:
        yield f"  defaults changed ({len(found.defaults)})"
    for option, old, new in found.defaults:
        yield f"    {_render_option(option)}: {_render_values(old, new)}"


def _render_values(old: str | None, new: str | None) -> str:
    """Return both values of an option; for long lists only the changes. --json has all."""
    if old and new and "," in old + new and len(old + new) > LONG:
        had, has = old.split(","), new.split(",")
        words = [f"-{w}" for w in had if w not in has] + [f"+{w}" for w in has if w not in had]
        if words:
            return " ".join(words)
    values = ("<None>" if v is None else v or '""' for v in (old, new))
    return " → ".join(v if len(v) <= LONG else f"{v[: LONG - 1]}…" for v in values)


def _render_names(title: str, found: Sequence[Option], *, brief: bool = False) -> Iterator[str]:
    if found:
        yield f"  {title} ({len(found)})"
    for section, members in groupby(found, key=lambda o: o[0]):
        yield from _wrap_names(f"[{section}]", [name for _, name in members], brief=brief)


def _render_pairs(
    title: str, found: Sequence[tuple[Option, Option | None]], *, brief: bool = False
) -> Iterator[str]:
    """Yield pairs of options, grouped by their two sections."""
    groups: dict[str, list[str]] = {}
    for (section, name), new in found:
        if new is None:
            groups.setdefault(f"[{section}] → nothing:", []).append(name)
        else:
            head = f"[{section}]" if section == new[0] else f"[{section}] → [{new[0]}]"
            text = name if name == new[1] else f"{name} → {new[1]}"
            groups.setdefault(head, []).append(text)
    if found:
        yield f"  {title} ({len(found)})"
    for head, names in groups.items():
        yield from _wrap_names(head, names, brief=brief)


def _wrap_names(head: str, names: Sequence[str], *, brief: bool) -> list[str]:
    # Screens of names that need no action would hide those that do.
    told = f"{len(names)} options, --json names them" if brief and len(names) > MANY else ""
    glued = (name.replace(" ", GLUE) for name in names)
    rows = textwrap.wrap(
        f"{head} {told or ', '.join(glued)}",
        WIDTH,
        initial_indent=" " * 4,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [row.replace(GLUE, " ") for row in rows]


def _render_dependencies(rows: Sequence[Change]) -> Iterator[str]:
    counts = {"+": "added", "-": "removed", "~": "changed"}
    said = [f"{sum(_choose_sign(r) == s for r in rows)} {word}" for s, word in counts.items()]
    yield f"  {', '.join(said)}"
    yield from _render_aligned(sorted(rows, key=lambda r: ("+-~".index(_choose_sign(r)), r.name)))
