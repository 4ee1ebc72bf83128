"""Turn an OpenStack release into a signed apt repository."""

import signal
import sys

__version__ = "0.1.0"

# Until the command handles signals itself (start.py), Ctrl-C just ends it, as SIGTERM does:
# Python's own handler would print a traceback. Other programs that import this keep theirs.
if (
    sys.argv[0].endswith("/build-debs")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
