"""The committed JSON Schemas say what the models say, to tools that know nothing of them."""

import json

import pytest
from jsonschema import Draft202012Validator

from saereg.errors import UnknownNameError
from saereg.registry.validators.runner import validate
from saereg.schemas import export
from saereg.schemas.artifact_config import CONFIG
from saereg.schemas.document import check_text
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import Report
from tests.releases import CONFIGS, config_text, tiny_release


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Name of a schema → texts of documents that fit it."""
    release = tiny_release(tmp_path_factory.mktemp("export"))
    return {
        "manifest": [(release / "manifest.json").read_text()],
        "index": [(release / "index.json").read_text()],
        "cfg": [config_text(name) for name in [*CONFIGS, "W_U/cross-snapshot-2"]],
        "report": [validate(release, "weights").text()],
    }


SHAPES = {"manifest": Manifest, "index": Index, "cfg": CONFIG, "report": Report}


@pytest.mark.parametrize("name", export.DOCUMENTS)
def test_the_committed_schema_is_the_generated_one(name):
    """`make schemas` writes it anew."""
    assert export.path_of(name).read_text(encoding="utf-8") == export.generate(name)
    assert export.schema(name) == export.generate(name)


def test_no_schema_is_left_over():
    """One file per document."""
    assert sorted(path.name for path in export.FOLDER.iterdir()) == sorted(
        f"{n}-1.schema.json" for n in export.DOCUMENTS
    )


@pytest.mark.parametrize("name", export.DOCUMENTS)
def test_a_schema_is_valid_draft_2020_12(name):
    """By the meta-schema of that draft, and it says so itself."""
    schema = json.loads(export.schema(name))

    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:saereg:schema:{name}:1"


def descriptions(schema: dict):
    """Yield (where, description) of every property; one that only refers may leave the words to its target."""
    definitions = schema.get("$defs", {})
    for where, shape in {"": schema, **definitions}.items():
        for key, value in shape.get("properties", {}).items():
            target = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
            yield f"{where}.{key}", value.get("description") or target.get("description")


@pytest.mark.parametrize("name", export.DOCUMENTS)
def test_every_field_is_described(name):
    """The words that stand under each field in the code reach every editor."""
    schema = json.loads(export.schema(name))

    assert [where for where, description in descriptions(schema) if not description] == []


@pytest.mark.parametrize("name", SHAPES)
def test_a_schema_accepts_what_the_models_accept(texts, name):
    """The documents of a real release."""
    validator = Draft202012Validator(json.loads(export.schema(name)))

    for text in texts[name]:
        assert check_text(SHAPES[name], text)[1] == []
        assert list(validator.iter_errors(json.loads(text))) == []


PLANTED = {
    "unknown key": lambda document: document.update(unknown=1),
    "no document": lambda document: document.clear(),
    "text for a number": lambda document: _first_number(document),
}


def _first_number(document) -> bool:
    """Replace a whole number anywhere by a text."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if type(value) is int:
            document[key] = "many"
            return True
        if isinstance(value, dict | list) and _first_number(value):
            return True
    return False


@pytest.mark.parametrize("defect", PLANTED)
@pytest.mark.parametrize("name", SHAPES)
def test_a_schema_refuses_what_the_models_refuse(texts, name, defect):
    """The same planted errors."""
    validator = Draft202012Validator(json.loads(export.schema(name)))
    for text in texts[name]:
        document = json.loads(text)
        PLANTED[defect](document)

        assert check_text(SHAPES[name], json.dumps(document))[1]
        assert list(validator.iter_errors(document))


def test_an_unknown_schema_is_named():
    """With the closest one."""
    with pytest.raises(UnknownNameError, match=r"^unknown document 'manifst'; did you mean 'manifest'\?$"):
        export.schema("manifst")


def test_a_stale_schema_is_reported_and_rewritten(monkeypatch, tmp_path, capsys):
    """`--check` only says so."""
    monkeypatch.setattr(export, "FOLDER", tmp_path)

    assert export.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("schemas out of date: manifest, index, cfg,")
    assert export.main([]) == 0
    assert export.main(["--check"]) == 0
