"""What a value of each type looks like: the one place for patterns.

The fields of what is read from `projects/` and from locks are declared with these types
(`name: PackageName`); `builder.model.reading` checks files against them. A plain `str` is
a `Line` and a plain `int` a `Count`, so that no key accepts control characters or a negative
number unless its type allows it.

Many of these values end up in maintainer scripts, units and control files, where they are not
quoted: their types leave out whatever means something to a shell, to systemd or to dpkg.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from packaging.requirements import Requirement as Pep508
from packaging.version import Version as Pep440

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a text: `what` in words, a pattern for the whole, and a further check."""

    what: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None

    def fits(self, text: str) -> bool:
        """Whether `text` is of this shape."""
        return bool(self.pattern.fullmatch(text)) and (self.check is None or self.check(text))


@dataclass(frozen=True, slots=True)
class Between:
    """The smallest and the largest number allowed."""

    least: int
    most: int


def _make_shape(what: str, pattern: str, check: Callable[[str], bool] | None = None) -> Shape:
    return Shape(what, re.compile(pattern, re.DOTALL), check)


def _is_printable(text: str) -> bool:
    """Whether no character moves the cursor, reorders the line, or is unassigned."""
    # str.isprintable rejects categories Cc, Cf, Cs, Co, Cn, Zl, Zp and all spaces but one
    return text.isprintable() or all(c.isprintable() or c == "\u00a0" for c in text)


def _has_printable_lines(text: str) -> bool:
    return all(_is_printable(line) for line in text.replace("\t", " ").split("\n"))


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_version(text: str) -> bool:
    try:
        Pep440(text)
    except ValueError:  # InvalidVersion, or a number of more digits than Python reads
        return False
    return True


def _is_requirement(text: str) -> bool:
    try:
        return parse_requirement(text).url is None
    except (ValueError, RecursionError):
        return False


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return _is_printable(text)


@cache
def parse_requirement(text: str) -> Pep508:
    """Parse a requirement (PEP 508) once; raises InvalidRequirement. Do not modify the result."""
    return Pep508(text)


def make_line(text: str) -> str:
    """Return a text as one `Line`: runs of blanks and unprintable characters become a space.

    For the parts of a wheel's METADATA that end up in control files.
    """
    words = "".join(c if c.isprintable() else " " for c in text).split()
    return " ".join(words)


# -- numbers

LINE = _make_shape("one line of printable text", r".*", _is_printable)
COUNT = Between(0, 2**31 - 1)

Count = Annotated[int, COUNT]
Port = Annotated[int, Between(1, 65535)]
Seconds = Annotated[int, Between(0, 86400)]
ExitStatus = Annotated[int, Between(0, 255)]
# Debian policy 9.2.2: 0 to 99 and 60000 to 64999 are assigned by the project; 0 means none here.
Uid = Annotated[int, Between(0, 64999)]
Epoch = Annotated[int, Between(0, 9)]
DebianRelease = Annotated[int, Between(1, 99)]
Level = Annotated[int, Between(0, 22)]
FileSize = Annotated[int, Between(0, 2**53)]

# -- texts

Line = Annotated[str, LINE]
Argument = Annotated[str, _make_shape("a word of a command, on one line", r".+", _is_printable)]
Text = Annotated[str, _make_shape("lines of printable text", r".*", _has_printable_lines)]
# Debian policy 3.4.1: one line of less than 80 characters
Synopsis = Annotated[
    str, _make_shape("one line of at most 80 characters", r"(?! ).{1,80}(?<! )", _is_printable)
]
# Used between double quotes in a maintainer script, as the account's name.
Title = Annotated[
    str,
    _make_shape(
        "a title of letters, digits, spaces, . + ( ) / -", r"[A-Za-z0-9][A-Za-z0-9 .+()/-]*"
    ),
]
Date = Annotated[
    str, _make_shape("a date of the form 2026-04-01", r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}", _is_date)
]
Expression = Annotated[str, _make_shape("a regular expression", r".+", _is_expression)]

# -- names and versions

_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"
_DISTRIBUTION = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
# Debian policy 5.6.1
PackageName = Annotated[str, _make_shape("the name of a Debian package (policy 5.6.1)", _PACKAGE)]
# Debian policy 7.1, without architectures, which packages of `Architecture: all` do not have.
# A version may have placeholders and substitution variables.
_VERSIONED = rf"{_PACKAGE}(?::any)?(?: \((?:<<|<=|=|>=|>>) [A-Za-z0-9.+~:${{}}-]+\))?"
Relation = Annotated[
    str,
    _make_shape("a relation such as `name (>= 1.0) | other` (policy 7.1)",
           rf"{_VERSIONED}(?: \| {_VERSIONED})*"),
]  # fmt: skip
DebianVersion = Annotated[
    str,
    _make_shape(
        "a Debian version (policy 5.6.12)", r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~]*-[A-Za-z0-9.+~]+"
    ),
]
DistributionName = Annotated[
    str, _make_shape("the name of a Python distribution (PEP 508)", _DISTRIBUTION)
]
EveryDistribution = Annotated[
    str, _make_shape("the name of a Python distribution (PEP 508), or *", rf"\*|{_DISTRIBUTION}")
]
Requirement = Annotated[
    str, _make_shape("a requirement (PEP 508) without a URL", r"[ -~]+", _is_requirement)
]
VERSION = _make_shape("a version (PEP 440)", r"[A-Za-z0-9.!+_-]{1,64}", _is_version)
Version = Annotated[str, VERSION]
PythonVersion = Annotated[
    str, _make_shape("a Python version such as 3.11.2", r"[23]\.[0-9]{1,2}\.[0-9]{1,2}")
]
PythonMinor = Annotated[str, _make_shape("a Python version such as 3.11", r"[23]\.[0-9]{1,2}")]
GlibcVersion = Annotated[str, _make_shape("a glibc version such as 2.36", r"2\.[0-9]{1,2}")]
PolicyVersion = Annotated[
    str, _make_shape("a Debian policy version such as 4.6.2", r"[0-9]+(?:\.[0-9]+){2,3}")
]
Architecture = Annotated[
    str, _make_shape("a Debian architecture such as amd64", r"[a-z0-9]+(?:-[a-z0-9]+)*")
]
ServiceName = Annotated[str, _make_shape("the name of a service", r"[a-z][a-z0-9-]*")]
SERIES_ID = _make_shape("a series id", r"[a-z0-9]+(?:\.[a-z0-9]+)*")
SeriesId = Annotated[str, SERIES_ID]
SeriesBound = SeriesId
SeriesName = Annotated[str, _make_shape("the code name of a series", r"[a-z]+")]
SuiteName = Annotated[str, _make_shape("the name of a Debian suite", r"[a-z][a-z0-9-]*")]
Fingerprint = Annotated[
    str, _make_shape("a fingerprint of 40 lower-case hexadecimal digits", r"[0-9a-f]{40}")
]
LintianTag = Annotated[
    str,
    _make_shape(
        "a lintian tag, with or without its context", r"[a-z0-9-]+(?: \S.*)?", _is_printable
    ),
]

# -- files

_FILE = r"[A-Za-z0-9_+][A-Za-z0-9._+@-]*"
_PART = r"(?!\.\.?(?:/|$))(?:[A-Za-z0-9._+@-]|\{series\})+"
_BELOW = rf"(?:/{_PART})+"
_GLOB = r"(?!\.\.?(?:/|$))[A-Za-z0-9._+@*?\[\]-]+"
FileName = Annotated[str, _make_shape("the name of a file, without a directory", _FILE)]
RelativePath = Annotated[
    str, _make_shape("a relative path, without ..", rf"{_PART}{_BELOW}|{_PART}")
]
RelativeGlob = Annotated[
    str, _make_shape("a relative path or glob, without ..", rf"{_GLOB}(?:/{_GLOB})*")
]
TreeGlob = Annotated[
    str,
    _make_shape(
        "a path or glob below the tree, without ..", rf"(?:\{{site\}}|{_GLOB})(?:/{_GLOB})*"
    ),
]
AbsolutePath = Annotated[
    str, _make_shape("an absolute path, without ..", rf"(?:\{{tree\}})?{_BELOW}")
]
# Policy 9.1.1 (the file system hierarchy) has no other place for a package's files.
InstalledPath = Annotated[
    str,
    _make_shape("a path relative to the service's directory in /etc, or one below /etc or /usr",
           rf"{_PART}(?:{_BELOW})?|/etc{_BELOW}|/usr/(?:bin|lib|libexec|sbin|share){_BELOW}/?"),
]  # fmt: skip
DirectoryPath = Annotated[
    str,
    _make_shape("a path below /etc, /srv, /run or one of the directories of /usr and /var",
           rf"/(?:etc|run|srv|usr/(?:lib|libexec|share)|var/(?:cache|lib|log|spool)){_BELOW}"),
]  # fmt: skip
HomePath = Annotated[
    str,
    _make_shape("a home directory below /var, /run or /srv, or /nonexistent",
           rf"/nonexistent|/(?:run|srv|var/(?:cache|lib|spool)){_BELOW}"),
]  # fmt: skip
ShellPath = Annotated[
    str,
    _make_shape("a shell below /bin, /sbin, /usr/bin or /usr/sbin", rf"/(?:usr/)?s?bin/{_FILE}"),
]
Mode = Annotated[str, _make_shape("a mode such as 0750", r"0[0-7]{3}")]
LogName = Annotated[str, _make_shape("the name of a log file, ending in .log", rf"{_FILE}\.log")]

# -- accounts, units and what they hold

# adduser(8), SYS_NAME_REGEX; longer names do not fit utmp(5)
AccountName = Annotated[str, _make_shape("the name of a user or group", r"[a-z_][a-z0-9_-]{0,30}")]
Script = Annotated[str, _make_shape("the name of a script", _FILE)]
Program = Annotated[
    str, _make_shape("the name of a script, or an absolute path", rf"{_FILE}|{_BELOW}")
]
# What a shell, and systemd in ExecStart=, take literally as one word.
_WORD = r"(?:[A-Za-z0-9_./:=,+@-]|\{(?:tree|series)\})+"
Word = Annotated[
    str, _make_shape("a word without blanks, quotes or anything a shell or systemd expands", _WORD)
]
CommandLine = Annotated[
    str,
    _make_shape("an absolute path and plain words", rf"[-+!]*(?:\{{tree\}})?/{_WORD}(?: {_WORD})*"),
]
# sudoers(5): a comma, a colon, a backslash or an exclamation mark would mean something else
SudoCommand = Annotated[
    str,
    _make_shape("a script of the tree and its arguments, without characters special to sudoers(5)",
           rf"{_FILE}(?: (?!\S*\.\.)[A-Za-z0-9_./*-]+)*"),
]  # fmt: skip
DaemonName = Annotated[
    str, _make_shape("the name of a unit, without its kind", r"[a-z0-9][a-z0-9.-]*")
]
UnitName = Annotated[
    str,
    _make_shape("a unit such as nova-api.service",
           r"[A-Za-z0-9][A-Za-z0-9:_.@-]*\."
           r"(?:service|socket|target|mount|automount|timer|path|slice|device|scope|swap)"),
]  # fmt: skip
UnitType = Annotated[
    str, _make_shape("a systemd type of service", r"simple|exec|forking|oneshot|dbus|notify|idle")
]
# systemd.unit(5): a percent sign begins a specifier, a backslash at the end joins lines
UnitText = Annotated[
    str, _make_shape("one line without %, \" or \\", r'[^%"\\]+', _is_printable)
]  # fmt: skip
ShellTest = Annotated[
    str, _make_shape("one line of shell without ', % or \\\\", r"[^'%\\]+", _is_printable)
]
UnitLine = Annotated[
    str,
    _make_shape(
        "a line of a unit such as Name=value", r"[A-Z][A-Za-z]+ *=(?:.*[^\\])?", _is_printable
    ),
]
Condition = Annotated[
    str,
    _make_shape("a line such as ConditionPathExists=/path",
           r"(?:Condition|Assert)[A-Z][A-Za-z]+=.*[^\\]", _is_printable),
]  # fmt: skip
TmpfilesLine = Annotated[
    str,
    _make_shape("a line of tmpfiles.d(5)", rf"[a-zA-Z][-+!=~^$]* {_BELOW}(?: .*)?", _is_printable),
]
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
EnvironmentName = Annotated[str, _make_shape("the name of an environment variable", _NAME)]
_MODULE = rf"{_NAME}(?:\.{_NAME})*"
ModuleName = Annotated[str, _make_shape("the name of a module", _MODULE)]
WsgiModule = Annotated[str, _make_shape("a module and its application", rf"{_MODULE}:{_NAME}")]
SettingName = Annotated[str, _make_shape("the name of a setting", r"[a-z][a-z0-9_-]*")]

# -- configuration and databases

OptionName = Annotated[str, _make_shape("the name of an option", r"[A-Za-z][A-Za-z0-9_.-]*")]
SectionName = Annotated[str, _make_shape("the name of a section", r"[A-Za-z0-9_.:-]+")]
Identifier = Annotated[str, _make_shape("an identifier of letters, digits and _", r"[A-Za-z0-9_]+")]

# -- places

# apt, dpkg and people read it: no blanks, only ASCII, and no credentials
# RFC 3986: no quotes, braces or backslashes, which mean something else where a URL ends up
_URL = r"https?://[A-Za-z0-9.:\[\]_-]+(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
URL = _make_shape("an http or https URL", _URL)
Url = Annotated[str, URL]
OptionalUrl = Annotated[str, _make_shape("an http or https URL, or nothing", rf"(?:{_URL})?")]

# -- the files of a lock

Sha256 = Annotated[str, _make_shape("a sha256 of 64 hexadecimal digits", r"[0-9a-f]{64}")]
OptionalSha256 = Annotated[
    str, _make_shape("a sha256 of 64 hexadecimal digits, or nothing", r"(?:[0-9a-f]{64})?")
]
ArtifactName = Annotated[
    str,
    _make_shape("the name of a wheel or an sdist, without a directory",
           r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,220}\.(?:whl|tar\.gz|tgz|tar\.bz2|zip)"),
]  # fmt: skip
