"""The report of a build (`--report FILE`): one JSON object, whether the build went well or not."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import BuildDebsError
from builder.files import DEVICES, write_atomically
from builder.start import at_end

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130


@dataclass(slots=True)
class Report:
    """What there is to tell of a run, as it becomes known: `facts` as JSON has them."""

    exit_code: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    failures: list[BuildDebsError] = field(default_factory=list)


@contextmanager
def reported(place: Path | None) -> Iterator[Report]:
    """Give a report for the time of a run, and write it to `place` when that ends, however it does.

    `exit_code` is what the command will exit with.
    """
    report, start = Report(), time.monotonic()
    error: BaseException | None = None

    def ended(code: int) -> None:
        if place is not None:
            report.exit_code = code
            text = json.dumps(
                table(report, KeyboardInterrupt(), time.monotonic() - start), indent=1
            )
            _write(place, f"{text}\n".encode(), failed=True)

    at_end.append(ended)
    try:
        yield report
    except BaseException as failure:
        error = failure
        report.exit_code = code_of(failure)
        raise
    finally:
        at_end.remove(ended)
        if place is not None:
            text = json.dumps(table(report, error, time.monotonic() - start), indent=1) + "\n"
            _write(place, text.encode(), failed=error is not None)


def code_of(error: BaseException) -> int:
    """Return the code the command exits with because of an error."""
    if isinstance(error, BuildDebsError):
        return error.exit_code
    code = getattr(error, "code", None)  # of a signal that was made an exit
    if isinstance(code, int):
        return code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else BuildDebsError.exit_code


def table(report: Report, error: BaseException | None, seconds: float) -> dict[str, Any]:
    """Return the report as JSON has it (its keys are documented in README.md)."""
    failures = [*([error] if error else []), *report.failures]
    return {
        **report.facts,
        "exit-code": report.exit_code,
        "seconds": round(seconds, 1),
        "errors": [_error(e) for e in failures],
        "logs": sorted({str(log) for e in failures for log in logs_of(e)}),
    }


def _error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, BuildDebsError):
        return {"message": error.message, "details": list(error.details), "hint": error.hint}
    message = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    return {"message": message or type(error).__name__, "details": [], "hint": ""}


def logs_of(error: BaseException) -> Iterator[Path]:
    """Yield the log files an error, and those it came from, tell of."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BuildDebsError) and seen.log:
            yield Path(seen.log)
        seen = seen.__cause__


def _write(place: Path, data: bytes, *, failed: bool) -> None:
    """Write the report; a device, a pipe and the like stay what they are.

    A report that cannot be written is an error of its own, but for a run that has one.
    """
    try:
        if str(place) in {"-", "/dev/stdout"}:
            sys.stdout.write(data.decode())
            sys.stdout.flush()
        elif str(place).startswith(DEVICES) or (place.exists() and not place.is_file()):
            with place.open("ab", buffering=0) as stream:
                stream.write(data)
        else:
            # where it is a link, the file it names is replaced
            write_atomically(place.resolve(), data)
    except OSError as error:
        if not failed:
            raise BuildDebsError(
                f"the report {place} cannot be written: {error.strerror}"
            ) from error
