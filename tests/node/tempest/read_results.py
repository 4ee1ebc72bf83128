"""Run by Tempest's own Python: a subunit stream on standard input, one JSON object a test out.

`test`, `status` (success, fail, skip …), `seconds`, and `said`: the reason of a skip, or the last
line and the whole of what a failure said.
"""

import json
import sys

import subunit
from testtools import StreamToDict


def told(test: dict) -> None:
    began, ended = test["timestamps"]
    texts = {name: content.as_text() for name, content in test["details"].items()}
    row = {
        "test": test["id"],
        "status": test["status"],
        "seconds": round((ended - began).total_seconds(), 1) if began and ended else 0.0,
        "said": texts.get("reason") or texts.get("traceback") or "".join(texts.values())[-4000:],
    }
    print(json.dumps(row))


results = StreamToDict(told)
results.startTestRun()
subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(results)
results.stopTestRun()
