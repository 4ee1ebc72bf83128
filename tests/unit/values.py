"""Values that many tests begin with: a target, its file, series."""

from builder.model.values import Series, Target

BOOKWORM = Target("bookworm", 12, "3.11.2", "2.36", "zstd", 3, "amd64", "4.6.2")
BOOKWORM_FILE = """\
suite = "bookworm"
release = 12
python = "3.11.2"
glibc = "2.36"
compression = "zstd"
compression-level = 3
architecture = "amd64"
standards-version = "4.6.2"
"""


def series(number, name):
    return Series(number, name, "2026-04-01", "maintained", True, ("3.11",), ("bookworm",), "", {})


GAZPACHO = series("2026.1", "gazpacho")
FLAMINGO = series("2025.2", "flamingo")
