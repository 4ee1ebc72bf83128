"""A plan in words, for a person."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from openstack_node import databases, options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openstack_node.plan import Database, Move, Plan

LONG = 60  # characters of a value


def render_lines(found: Plan) -> Iterator[str]:
    """Yield the lines of a plan."""
    fresh = sum(1 for c in found.changes if not c.old)
    gone = [c.package for c in found.changes if not c.new]
    others = len(found.changes) - fresh - len(gone)
    size = f"{_render_size(found.size)} to fetch, {_render_size(found.disk)} more on disk"
    yield f"{found.old} to {found.new}: {fresh} packages new, {others} upgraded, {size}"
    for space in found.spaces:
        if space.needed > space.free:
            needed, free = _render_size(space.needed), _render_size(space.free)
            yield f"  warning   {space.path}: {free} free, {needed} needed"
    if found.held:
        names = ", ".join(found.held)
        yield f"  warning   on hold: {names}; run apt-mark unhold before upgrading"
    if gone:
        yield f"  removed   {', '.join(gone)}"
    for move in found.moves:
        yield f"{move.service}  {move.old} to {move.new}"
        for word, text in _render_move(move, found.old):
            yield f"  {word:<8}  {text}"


def _render_default(found: options.Default) -> str:
    """Return a line on a default that changes; --json has long values in full."""
    was = f" (was {found.was})" if found.was else ""
    return f"{found.option}{was}: {_render_values(found.old, found.new)}"


def _render_values(old: str | None, new: str | None) -> str:
    """Return the old and the new value; of long lists, what is removed and added."""
    if old and new and "," in old + new and len(old + new) > LONG:
        had, has = old.split(","), new.split(",")
        words = [f"-{w}" for w in had if w not in has] + [f"+{w}" for w in has if w not in had]
        if words:
            return " ".join(words)
    values = ("<None>" if v is None else v or '""' for v in (old, new))
    return " -> ".join(v if len(v) <= LONG else f"{v[: LONG - 3]}..." for v in values)


def _render_size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _render_move(move: Move, old: str) -> Iterator[tuple[str, str]]:
    """Yield the lines on a service: a word, and a text."""
    yield from (("critical", text) for text in move.records)
    yield from (("before", text) for text in move.before)
    yield from (("restart", name) for name in move.restarts)
    yield from (("new unit", name) for name in move.added)
    yield from (("no unit", name) for name in move.gone)
    before: list[Database] = []
    for database in move.databases:
        yield from _render_database(database, before, old)
        before.append(database)
    yield from ((p.level, f"{p.place}: {p.text}") for p in move.problems)
    if move.defaults:
        yield "note", f"defaults that change, of options no file sets: {len(move.defaults)}"
    yield from (("", f"  {_render_default(d)}") for d in move.defaults)
    yield from (("after", text) for text in move.after)


def _render_database(
    found: Database, others: list[Database], old: str
) -> Iterator[tuple[str, str]]:
    """Yield the lines on a database; `others` are those of the service before it."""
    if not found.name:
        yield "database", f"cannot be read: {found.detail}"
        return
    name = f"{found.name}, {found.where}:"
    if found.state not in ("behind", "current"):
        state = databases.STATES[found.state]
        yield "database", f"{name} {state}" + (f"; {found.detail}" if found.detail else "")
        return
    count = len(found.migrations)
    same = next((o.name for o in others if count and o.migrations == found.migrations), "")
    number = f"{count} migration{'s' if count != 1 else ''}"
    yield "database", f"{name} {number}{f', the same as {same}' if same else ''}"
    if same:
        return
    for (title, removes), rows in groupby(found.migrations, lambda m: (m.title, m.removes)):
        revisions = [m.revision for m in rows]
        times = f" ({len(revisions)} times)" if len(revisions) > 1 else ""
        lost = f"; removes something: after it there is no way back to {old}" if removes else ""
        yield "", f"  {title or revisions[0]}{times}{lost}"
