"""A document whose commands are run: the fenced blocks of a Markdown file, in order.

A block begins with ```` ```sh NODE... ````: shell text, typed on each of these nodes by
root, in a login shell that stays open from one block to the next. A fence of another
kind is refused: what a reader would type is run, without exception.
"""

from __future__ import annotations

import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness import Node

FENCE = re.compile(r"^(`{3,}|~{3,})(.*)$")
STATE = "/run/document.sh"  # what a shell hands to the next one: variables and functions


class DocumentError(Exception):
    """The document has a block that cannot be run, or one that failed."""


@dataclass(frozen=True)
class Block:
    """Shell text for `nodes`; `section` is the heading it stands below, `line` its first."""

    section: str
    line: int
    nodes: tuple[str, ...]
    text: str


def read(path: Path) -> list[Block]:
    """Return the blocks of a document; DocumentError for one that names no node."""
    blocks: list[Block] = []
    section, fence, kind, start, body = "", "", "", 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = FENCE.match(line)
        if fence:
            if line.strip() == fence:
                blocks.append(_block(path, section, start, kind, body))
                fence = ""
            else:
                body.append(line)
        elif match:
            fence, kind, start, body = match[1], match[2], number + 1, []
        elif line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith(("    ", "\t")):
            raise DocumentError(f"{path.name}:{number}: indented text is a block nobody runs")
    if fence:
        raise DocumentError(f"{path.name}:{start}: the block has no end")
    return blocks


def section(path: Path, heading: str, node: str) -> list[Block]:
    """Return the ```` ```sh ```` blocks below a heading of a document that names no nodes."""
    _, found, rest = path.read_text().partition(f"\n## {heading}\n")
    if not found:
        raise DocumentError(f"{path.name}: no section {heading}")
    texts = re.findall(r"^```sh\n(.*?)^```$", rest.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    return [Block(heading, number, (node,), text) for number, text in enumerate(texts, 1)]


def _block(path: Path, section: str, line: int, kind: str, body: list[str]) -> Block:
    language, *nodes = kind.split()
    if language != "sh" or not nodes:
        raise DocumentError(f"{path.name}:{line}: ```{kind} says not what runs it, and where")
    return Block(section, line, tuple(nodes), "\n".join(body) + "\n")


def run(blocks: list[Block], nodes: Mapping[str, Node]) -> dict[int, str]:
    """Run blocks as a person does, and return what each printed, by its line.

    A node of several takes its turn at the same time as the others.
    """
    said = {}
    for block in blocks:
        with ThreadPoolExecutor(len(block.nodes)) as threads:
            outputs = list(threads.map(lambda n, b=block: _type(nodes[n], b), block.nodes))
        said[block.line] = "".join(outputs)
    return said


def _type(node: Node, block: Block) -> str:
    script = (
        f"[ ! -e {STATE} ] || . {STATE}\nset -e -o pipefail\n{block.text}"
        f"set +e; umask 077; {{ declare -p | grep -v '^declare -[a-z]*r'; declare -f; }} >{STATE}\n"
    )
    done = node.run(f"bash -c {shlex.quote(script)}", check=False, seconds=600)
    if done.returncode != 0:
        raise DocumentError(
            f"line {block.line} on {node.name}, status {done.returncode}:\n{block.text}\n"
            f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout
