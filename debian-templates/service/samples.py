"""Generate a service's sample files: debian/samples.py SITE ROWS.

SITE has the service's own modules and entry points, which take precedence over the tree's.
Each of ROWS (JSON) has the kind of generator, its input file, and the path of the sample. The
former places and the defaults of options are written to SAMPLE.about. Runs under the tree's
Python, 2.7 or 3.
"""

import json
import socket
import sys


def main(site, rows):
    """Run each generator."""
    sys.path.insert(0, site)
    for kind, source, sample in json.loads(rows):
        generate = GENERATORS[kind]
        generate(["--config-file", source, "--output-file", sample])
        if kind == "config-generator":
            with open(sample + ".about", "w") as stream:
                options = listed(source)
                about = {"former": former(options), "defaults": defaults(options)}
                json.dump(about, stream, sort_keys=True)


def config(arguments):
    """Run oslo-config-generator."""
    from oslo_config import generator  # noqa: PLC0415 - not every service needs it

    generator.main(arguments)


def listed(source):
    """Return the options of a sample, each with its section."""
    from oslo_config import cfg, generator  # noqa: PLC0415 - likewise

    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", source])
    return [
        (getattr(group, "name", group) or "DEFAULT", option)
        for _, groups in generator._list_opts(conf.namespace)
        for group, options in groups
        for option in options
    ]


def former(options):
    """Return former places that are still read: old section, old name, section, name.

    Samples omit some of them.
    """
    rows = []
    for section, option in options:
        for old in option.deprecated_opts:
            name = (old.name or option.dest).replace("-", "_")
            rows.append([old.group or section, name, section, option.dest])
    return sorted(rows)


def defaults(options):
    """Return the defaults of options: section, name, and the default as written in a file.

    Secret options are omitted, and those that depend on the host (they have a different default
    for the sample, or the host's name). No default is null.
    """
    host = socket.gethostname()
    rows = []
    for section, option in options:
        value = written(option.default)
        if option.sample_default is None and not option.secret and value != host:
            rows.append([section, option.dest, value])
    return rows


def written(value):
    """Return a value as it would be written into a file; None for no value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(sorted("{}:{}".format(*row) for row in value.items()))
    if isinstance(value, (set, frozenset)):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def policy(arguments):
    """Run oslopolicy-sample-generator, with its own options instead of the process's.

    Old versions accept no others.
    """
    from oslo_config import cfg  # noqa: PLC0415 - likewise
    from oslo_policy import generator  # noqa: PLC0415

    code = generator.generate_sample.__code__
    takes = code.co_varnames[: code.co_argcount]
    generator.generate_sample(arguments, **({"conf": cfg.ConfigOpts()} if "conf" in takes else {}))


GENERATORS = {"config-generator": config, "policy-generator": policy}

if __name__ == "__main__":
    main(*sys.argv[1:])
