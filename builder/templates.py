"""Render `debian-templates/`: a template holds loops and ifs, no logic."""

from __future__ import annotations

import datetime
from email.utils import format_datetime
from functools import cache
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from pathlib import Path

MAINTAINER = "build-debs <build-debs@openstack.invalid>"


@cache
def make_environment(root: Path) -> jinja2.Environment:
    """Return the templates of a directory; an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is not HTML
    )


def render(root: Path, template: str, /, **values: object) -> str:
    """Render the template of that name below `root`."""
    return make_environment(root).get_template(template).render(**values)


def format_date(epoch_seconds: int) -> str:
    """Return a changelog's date (Debian policy 4.4) in UTC."""
    return format_datetime(datetime.datetime.fromtimestamp(epoch_seconds, datetime.UTC))
