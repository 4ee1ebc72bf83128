"""Generate a service's sample files: debian/samples.py SITE ROWS.

SITE has the service's own modules and entry points, which come before those of the tree.
ROWS (JSON) are kind of generator, its input file, and where the sample goes. The tree's
Python runs this, 2.7 or 3.
"""

import json
import sys


def main(site, rows):
    """Run each generator."""
    sys.path.insert(0, site)
    for kind, source, sample in json.loads(rows):
        generate = GENERATORS[kind]
        generate(["--config-file", source, "--output-file", sample])


def config(arguments):
    """Run oslo-config-generator."""
    from oslo_config import generator  # noqa: PLC0415 - not every service has a need for it

    generator.main(arguments)


def policy(arguments):
    """Run oslopolicy-sample-generator, with options of its own rather than the process's.

    Old ones know no others.
    """
    from oslo_config import cfg  # noqa: PLC0415 - likewise
    from oslo_policy import generator  # noqa: PLC0415

    code = generator.generate_sample.__code__
    takes = code.co_varnames[: code.co_argcount]
    generator.generate_sample(arguments, **({"conf": cfg.ConfigOpts()} if "conf" in takes else {}))


GENERATORS = {"config-generator": config, "policy-generator": policy}

if __name__ == "__main__":
    main(*sys.argv[1:])
