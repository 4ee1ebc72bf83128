"""The reference of service files, and the schema that editors check them with."""

import json
import re
import tomllib

import jsonschema
import pytest
from wheelhouse import REPOSITORY

from builder.catalogue import reference
from builder.model import reading

SERVICES = sorted((REPOSITORY / "projects/services").glob("*.toml"))
REGENERATE = "regenerate it with python -m builder.catalogue.reference"


def test_the_document_has_the_keys_there_are():
    text = (REPOSITORY / reference.DOCUMENT).read_text()
    assert text == reference.insert_keys(text), REGENERATE


def test_the_schema_has_the_keys_there_are():
    assert (REPOSITORY / reference.SCHEMA).read_text() == reference.render_schema(), REGENERATE


@pytest.mark.parametrize("cls", [cls for _, cls in reference.list_tables()])
def test_each_key_has_a_meaning(cls):
    said = reference.parse_meanings(cls)
    assert [
        key for key, (field, _) in reading.list_fields(cls).items() if field.name not in said
    ] == []
    assert all(len(meaning) > 3 for meaning in said.values())


@pytest.fixture(scope="module")
def validator():
    schema = json.loads((REPOSITORY / reference.SCHEMA).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_the_schema_takes_the_services_there_are(validator, path):
    assert list(validator.iter_errors(tomllib.loads(path.read_text()))) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "OpenStack', 'titel = "OpenStack', "'titel' was unexpected"),
        ('name = "placement"\n', 'name = "Place ment"\n', "does not match"),
        ("[user]\n", "[user]\nuid = 70000\n", "greater than the maximum"),
        ('kind = "uwsgi"', 'kind = "apache"', "is not one of"),
    ],
)
def test_the_schema_names_what_the_builder_refuses(validator, old, new, said):
    text = (REPOSITORY / "projects/services/placement.toml").read_text()
    assert text.count(old) >= 1
    raw = tomllib.loads(text.replace(old, new, 1))
    assert said in " ".join(error.message for error in validator.iter_errors(raw))


def test_a_pattern_is_one_that_editors_read():
    """ECMA 262 has neither named groups of Python's form nor its anchors."""
    text = (REPOSITORY / reference.SCHEMA).read_text()
    assert not re.search(r"\(\?P|\\\\A|\\\\Z", text)
