"""Wait until all agents and compute hosts of a cloud report: a program, run on a node.

    agents.py SECONDS    fails after so long, with those that do not

Its environment is that of an openrc file. The `openstack` command takes two processor seconds a
question, which a node under test has better uses for.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

STEP = 1  # seconds


def ask(url, token="", body=None):
    """Return the headers and the JSON of an answer."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data)  # noqa: S310 - of the catalogue
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("X-Auth-Token", token)
    context = ssl.create_default_context(cafile=os.environ.get("OS_CACERT"))
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:  # noqa: S310
        return answer.headers, json.loads(answer.read())


def log_in():
    """Return a token, and the public address of each type of service."""
    of = os.environ.get
    user = {
        "name": of("OS_USERNAME"),
        "password": of("OS_PASSWORD"),
        "domain": {"name": of("OS_USER_DOMAIN_NAME", "Default")},
    }
    project = {
        "name": of("OS_PROJECT_NAME"),
        "domain": {"name": of("OS_PROJECT_DOMAIN_NAME", "Default")},
    }
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": project},
    }
    url = of("OS_AUTH_URL").rstrip("/")
    headers, answer = ask(f"{url}/auth/tokens", body={"auth": auth})
    urls = {
        service["type"]: endpoint["url"].rstrip("/")
        for service in answer["token"]["catalog"]
        for endpoint in service["endpoints"]
        if endpoint["interface"] == "public"
    }
    return headers["X-Subject-Token"], urls


def down():
    """Return the agents and the hosts that do not report."""
    token, urls = log_in()
    _, agents = ask(f"{urls['network']}/v2.0/agents", token)
    _, services = ask(f"{urls['compute']}/os-services", token)
    found = [f"{a['binary']} on {a['host']}" for a in agents["agents"] if not a["alive"]]
    return found + [
        f"{s['binary']} on {s['host']}" for s in services["services"] if s["state"] != "up"
    ]


def main():
    end = time.monotonic() + float(sys.argv[1])
    while True:
        try:
            left = down()
        except (OSError, ValueError, KeyError) as error:  # of HTTP as well
            left = [f"the APIs: {error}"]
        if not left:
            return
        if time.monotonic() > end:
            sys.exit(f"no report of {', '.join(left)}")
        time.sleep(STEP)


main()
