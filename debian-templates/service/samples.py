"""Generate a service's sample files: debian/samples.py SITE ROWS.

SITE has the service's own modules and entry points, which come before those of the tree.
ROWS (JSON) are kind of generator, its input file, and where the sample goes; beside a
sample of options goes SAMPLE.former, their former places. The tree's Python runs this,
2.7 or 3.
"""

import json
import sys


def main(site, rows):
    """Run each generator."""
    sys.path.insert(0, site)
    for kind, source, sample in json.loads(rows):
        generate = GENERATORS[kind]
        generate(["--config-file", source, "--output-file", sample])
        if kind == "config-generator":
            with open(sample + ".former", "w") as stream:
                json.dump(former(source), stream, sort_keys=True)


def config(arguments):
    """Run oslo-config-generator."""
    from oslo_config import generator  # noqa: PLC0415 - not every service has a need for it

    generator.main(arguments)


def former(source):
    """Return former places that are read still: old section, old name, section, name.

    A sample leaves some of them out.
    """
    from oslo_config import cfg, generator  # noqa: PLC0415 - likewise

    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", source])
    rows = []
    for _, groups in generator._list_opts(conf.namespace):
        for group, options in groups:
            section = getattr(group, "name", group) or "DEFAULT"
            for option in options:
                for old in option.deprecated_opts:
                    name = (old.name or option.dest).replace("-", "_")
                    rows.append([old.group or section, name, section, option.dest])
    return sorted(rows)


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
