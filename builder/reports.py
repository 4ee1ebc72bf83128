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
    """What is known of a run so far; `facts` are JSON values."""

    exit_code: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    failures: list[BuildDebsError] = field(default_factory=list)


@contextmanager
def open_report(place: Path | None) -> Iterator[Report]:
    """Yield a report for a run, and write it to `place` when the run ends, however it ends.

    `exit_code` is what the command will exit with.
    """
    report, start = Report(), time.monotonic()
    error: BaseException | None = None

    def write_interrupted(code: int) -> None:
        if place is not None:
            report.exit_code = code
            text = json.dumps(
                make_table(report, KeyboardInterrupt(), time.monotonic() - start), indent=1
            )
            _write(place, f"{text}\n".encode(), failed=True)

    at_end.append(write_interrupted)
    try:
        yield report
    except BaseException as failure:
        error = failure
        report.exit_code = find_exit_code(failure)
        raise
    finally:
        at_end.remove(write_interrupted)
        if place is not None:
            text = json.dumps(make_table(report, error, time.monotonic() - start), indent=1) + "\n"
            _write(place, text.encode(), failed=error is not None)


def find_exit_code(error: BaseException) -> int:
    """Return the code the command exits with because of an error."""
    if isinstance(error, BuildDebsError):
        return error.exit_code
    code = getattr(error, "code", None)  # of an exit, which a signal has become
    if isinstance(code, int):
        return code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else BuildDebsError.exit_code


def make_table(report: Report, error: BaseException | None, seconds: float) -> dict[str, Any]:
    """Return the report as JSON-compatible values (README.md documents its keys)."""
    failures = [*([error] if error else []), *report.failures]
    return {
        **report.facts,
        "exit-code": report.exit_code,
        "seconds": round(seconds, 1),
        "errors": [_describe_error(e) for e in failures],
        "logs": sorted({str(log) for e in failures for log in list_logs(e)}),
    }


def _describe_error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, BuildDebsError):
        return {"message": error.message, "details": list(error.details), "hint": error.hint}
    message = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    return {"message": message or type(error).__name__, "details": [], "hint": ""}


def list_logs(error: BaseException) -> Iterator[Path]:
    """Yield the log files that an error and its causes name."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BuildDebsError) and seen.log:
            yield Path(seen.log)
        seen = seen.__cause__


def _write(place: Path, data: bytes, *, failed: bool) -> None:
    """Write the report; devices, pipes and the like are written to, not replaced.

    Failing to write the report is an error, unless the run already has one.
    """
    try:
        if str(place) in {"-", "/dev/stdout"}:
            sys.stdout.write(data.decode())
            sys.stdout.flush()
        elif str(place).startswith(DEVICES) or (place.exists() and not place.is_file()):
            with place.open("ab", buffering=0) as stream:
                stream.write(data)
        else:
            # if it is a link, replace the file it names
            write_atomically(place.resolve(), data)
    except OSError as error:
        if not failed:
            raise BuildDebsError(
                f"the report {place} cannot be written: {error.strerror}"
            ) from error
