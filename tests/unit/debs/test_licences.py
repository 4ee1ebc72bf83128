"""A package says of its licence what its wheel says, in the format Debian reads."""

import pytest
from wheelhouse import distribution, metadata_text, ready, wheel

from builder.debs.licences import describe

APACHE = """
                                 Apache License
                           Version 2.0, January 2004

   Copyright [yyyy] [name of copyright owner]
   (c) You must retain, in the Source form
"""
MIT = (
    "MIT License\n\nCopyright (c) 2001-2024 Jane Example\nCopyright (C) 2020, Joe\n\n\fPermission\n"
)


def described(tmp_path, files=(), **metadata):
    site = tmp_path / "site"
    info = site / "thing-1.0.dist-info"
    for name, text in {
        "METADATA": metadata_text("thing", "1.0", **metadata),
        **dict(files),
    }.items():
        path = info / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = wheel(tmp_path, "thing")
    return describe(site, ready(distribution("thing", path=path), path))


@pytest.mark.parametrize(
    ("metadata", "licence", "common"),
    [
        ({"classifier": ["License :: OSI Approved :: Apache Software License"]}, None, ""),
        ({"license_expression": "Apache-2.0"}, "Apache-2.0", "Apache-2.0"),
        ({"license": "Apache License, Version 2.0"}, "Apache-2.0", "Apache-2.0"),
        ({"license": "MIT"}, "MIT", ""),
        ({"license_expression": "BSD-3-Clause", "license": "other"}, "BSD-3-Clause", ""),
        ({"license": "LGPLv2.1+"}, "LGPL-2.1", "LGPL-2.1"),
        ({"license_expression": "LGPL-2.1-or-later"}, "LGPL-2.1", "LGPL-2.1"),
        ({"license": "GNU Lesser General Public License v3"}, "LGPL-3", "LGPL-3"),
        ({"license": "GPLv3"}, "GPL-3", "GPL-3"),
        ({"license": "GNU General Public License v2 (GPLv2)"}, "GPL-2", "GPL-2"),
        ({"license_expression": "MPL-2.0 AND MIT"}, "MPL-2.0", "MPL-2.0"),
        ({"license": "GNU Affero GPL 3"}, "GNU-Affero-GPL-3", ""),
        ({}, "as-published", ""),
    ],
)
def test_the_licence_is_the_one_the_metadata_names(tmp_path, metadata, licence, common):
    values = described(tmp_path, **metadata)
    assert values["license"] == (licence or "Apache-Software-License")
    assert values["common"] == common


def test_a_vague_apache_classifier_is_settled_by_the_licence_s_own_text(tmp_path):
    classifier = ["License :: OSI Approved", "License :: OSI Approved :: Apache Software License"]
    values = described(tmp_path, {"LICENSE": APACHE}, classifier=classifier)
    assert values["common"] == "Apache-2.0"


def test_a_licence_without_metadata_is_named_by_its_text(tmp_path):
    assert described(tmp_path, {"licenses/LICENSE": MIT})["license"] == "MIT-License"


def test_a_licence_given_as_its_whole_text_is_no_name(tmp_path):
    values = described(tmp_path, {"LICENSE": MIT}, license="x" * 500)
    assert values["license"] == "MIT-License"


def test_holders_are_those_of_the_licence_files(tmp_path):
    values = described(tmp_path, {"licenses/LICENSE.txt": MIT, "NOTICE": "© 1999 Someone Else\n"})
    assert values["holders"].split("\n ") == [
        "1999 Someone Else",
        "2001-2024 Jane Example",
        "2020, Joe",
    ]


def test_clauses_and_placeholders_are_no_holders(tmp_path):
    values = described(tmp_path, {"LICENSE": APACHE}, author="OpenStack", license="Apache 2.0")
    assert values["holders"] == "OpenStack"


@pytest.mark.parametrize(
    ("metadata", "holder"),
    [
        ({"author": "Jane\n  Example"}, "Jane Example"),
        ({"author_email": "Jane <jane@example.org>"}, "Jane <jane@example.org>"),
        ({"maintainer_email": "joe@example.org"}, "joe@example.org"),
        ({}, "the authors of thing"),
    ],
)
def test_without_licence_files_the_author_is_the_holder(tmp_path, metadata, holder):
    assert described(tmp_path, **metadata)["holders"] == holder


def test_the_text_is_a_field_s_where_no_line_ends_it(tmp_path):
    lines = described(tmp_path, {"LICENSE": MIT}, license="MIT")["text"]
    assert lines[:3] == ["MIT License", ".", "Copyright (c) 2001-2024 Jane Example"]
    assert lines[-1] == "Permission"
    assert all(line and "\f" not in line for line in lines)


def test_a_very_long_text_is_cut_and_says_where_the_rest_is(tmp_path):
    lines = described(tmp_path, {"LICENSE": "a line\n" * 2000}, license="MIT")["text"]
    assert len(lines) < 500
    assert ".dist-info" in lines[-1]


def test_a_licence_debian_has_is_pointed_at_and_not_repeated(tmp_path):
    values = described(tmp_path, {"LICENSE": APACHE}, license="Apache-2.0")
    assert len(values["text"]) == 1
    assert ".dist-info" in values["text"][0]


def test_a_licence_without_a_text_says_so(tmp_path):
    assert described(tmp_path, license="MIT")["text"] == [
        "The distribution names its licence but does not include its text."
    ]


def test_it_says_which_file_was_packaged(tmp_path):
    path, source = wheel(tmp_path, "thing"), wheel(tmp_path, "source")
    site = tmp_path / "site"
    (site / "thing-1.0.dist-info").mkdir(parents=True)
    (site / "thing-1.0.dist-info/METADATA").write_text(metadata_text("thing", "1.0"))
    row = distribution("thing", path=path)
    values = describe(site, ready(row, path, built=True, source=source))
    assert values["file"] == source.name
    assert values["sha256"] == row.artifacts[0].sha256


def test_odd_bytes_in_a_licence_do_no_harm(tmp_path):
    info = tmp_path / "site/thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(metadata_text("thing", "1.0", license="MIT"))
    (info / "LICENSE").write_bytes(b"Copyright (c) 2001 J\xf6rg\n")
    path = wheel(tmp_path, "thing")
    values = describe(tmp_path / "site", ready(distribution("thing", path=path), path))
    assert values["holders"].startswith("2001 J")


def test_a_package_of_ours_says_that_it_is_ours(tmp_path):
    values = describe(tmp_path, None)
    assert (values["license"], values["distribution"]) == ("Apache-2.0", "build-debs")


def test_what_an_author_wrote_moves_no_cursor(tmp_path):
    files = {"LICENSE": "Copyright 2020 Eve\x1b[2J\u202e\n\tPermission\x07 is granted\n"}
    found = described(tmp_path, files, license="MIT", author="Eve\x1b[0m")
    assert found["holders"] == "2020 Eve[2J"
    assert found["text"] == ["Copyright 2020 Eve[2J", "\tPermission is granted"]
    found = described(tmp_path, {"LICENSE": ""}, author="Zoë\x00\x9b Lefèvre")
    assert found["holders"] == "Zoë Lefèvre"
