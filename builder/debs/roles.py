"""Packages that install everything a node of one role needs: `projects/roles.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.debs.plain import Plain, wrap_paragraphs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from builder.model.service import Package
    from builder.model.values import Series, Target

FIELDS = ("depends", "recommends", "suggests")


def make_role_packages(
    roles: Iterable[Package],
    series: Series,
    target: Target,
    templates: Path,
    *,
    ours: Collection[str],
    built: Collection[str],
) -> list[Plain]:
    """Return the packages of `roles`, which are narrowed to the series.

    A role that depends on one of `ours` that is not `built` here is omitted: apt could not
    install it from what this build publishes.
    """
    found = []
    for role in roles:
        needed = {relation.split()[0] for relation in role.depends}
        if (needed & set(ours)) - set(built):
            continue
        values = {
            "summary": role.summary,
            "description": wrap_paragraphs(role.description),
            "relations": {name.capitalize(): getattr(role, name) for name in FIELDS},
        }
        found.append(Plain(role.name, templates / "roles", series, target, {}, values))
    return found
