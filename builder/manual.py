"""The manual page and shell completions, generated from the command line itself.

`python -m builder.manual` regenerates them below `docs/share/`; installations take them from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from builder.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "build-debs"
VARIABLE = "_BUILD_DEBS_COMPLETE"
ROOM = Path("docs/share")
PAGE = "man/man1/build-debs.1"
COMPLETIONS = {
    "bash-completion/completions/build-debs": BashComplete,
    "zsh/site-functions/_build-debs": ZshComplete,
    "fish/vendor_completions.d/build-debs.fish": FishComplete,
}
EXIT_CODES = {
    "0": "Done.",
    "1": "A full disk, a missing permission, or anything not listed below.",
    "2": "Usage: an unknown release, project, target or option.",
    "3": "A file of projects/, a lock or a file you named cannot be used.",
    "4": "Requirements and constraints conflict.",
    "5": "A file cannot be downloaded, or is not the one that was locked.",
    "6": "A wheel or package failed to build.",
    "7": "The repository cannot be written, read or signed.",
    "8": "A tool or library is missing on this machine.",
    "9": "Another build holds the repository.",
    "10": "Published, but incomplete (--keep-going).",
}
ENVIRONMENT = {
    "BUILD_DEBS_OVERLAY": "Directories laid over projects/, separated by colons; the last wins.",
    "BUILD_DEBS_DATA": "A directory with projects/ and debian-templates/ to use instead.",
    "BUILD_DEBS_CACHE": "Where downloads, wheels and packages are kept (default: below "
    "XDG_CACHE_HOME).",
    "XDG_DATA_HOME": "The signing keys are in build-debs/keys below it.",
    "GNUPGHOME": "Where --key looks for the key.",
    "UV_DEFAULT_INDEX, PIP_INDEX_URL": "The package index.",
}


def render_page() -> str:
    """Return the manual page in man(7)."""
    context = cli.make_context(NAME, [], resilient_parsing=True)
    parts = [
        '.TH BUILD-DEBS 1 "" "build-debs" "User Commands"',
        ".SH NAME",
        f"{NAME} \\- turn an OpenStack release into a signed apt repository",
        ".SH SYNOPSIS",
        f".B {NAME}",
        "[\\fIverb\\fR] [\\fIoptions\\fR] [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        *_render_paragraphs(cli.help or ""),
        ".SH VERBS",
        *_render_verbs(cli, context),
        ".SH EXIT STATUS",
        *_render_items(EXIT_CODES),
        ".SH ENVIRONMENT",
        *_render_items(ENVIRONMENT),
        ".SH SEE ALSO",
        ".BR openstack-node (8),",
        ".BR apt (8)",
    ]
    return "\n".join(parts) + "\n"


def _render_verbs(group: click.Group, context: click.Context) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _render_verbs(command, inner)
            continue
        words = " ".join(command.collect_usage_pieces(inner))
        path = inner.command_path.removeprefix(f"{NAME} ")
        yield f".SS {_escape(path)} {_escape(words)}"
        yield from _render_paragraphs(command.help or "")
        rows = [row for p in command.get_params(inner) if (row := p.get_help_record(inner))]
        yield from _render_items({term: said for term, said in rows if said})


def _render_items(rows: dict[str, str]) -> Iterator[str]:
    for term, said in rows.items():
        yield from (".TP", f".B {_escape(term)}", _escape(said))


def _render_paragraphs(text: str) -> Iterator[str]:
    for part in text.strip().split("\n\n"):
        yield from (".PP", _escape(" ".join(part.replace("\b", "").split())))


def _escape(text: str) -> str:
    """Return a text for man(7): hyphens are hyphens, and no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def render_files() -> dict[str, str]:
    """Return every file, by its path below `docs/share/`."""
    found = {PAGE: render_page()}
    for path, shell in COMPLETIONS.items():
        found[path] = shell(cli, {}, NAME, VARIABLE).source()
    return found


def main() -> None:
    """Regenerate all of them in a checkout."""
    for name, text in render_files().items():
        path = ROOM / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
