"""`saereg train`: configuration files, flags, and one line for every mistake."""

import json

import pytest

from saereg.cli import run
from saereg.cli.configuration import overlaid, read_yaml
from saereg.errors import DocumentError, UsageError
from saereg.schemas.manifest import SCHEMA_URL, Manifest, ReleaseInfo

RUN = """
collection: acts
site: residual-1
sae: {architecture: topk, d_sae: 64, k: 4}
optimization: {tokens: 1000, lr: 3e-4}
artifact: {id: layer_1/topk}
"""


def test_exponents_without_a_dot_are_numbers(tmp_path):
    """YAML 1.1 reads 3e-4 as text; in a training configuration it is a learning rate."""
    (tmp_path / "run.yaml").write_text(RUN)

    assert read_yaml(tmp_path / "run.yaml")["optimization"]["lr"] == 3e-4


def test_a_date_is_what_was_written(tmp_path):
    """An id may be one; YAML 1.1 would make an object of it that no document can hold."""
    (tmp_path / "run.yaml").write_text("a: 2026-01-31\nb: &b {c: 1}\nd: {<<: *b, e: 2}\n")

    assert read_yaml(tmp_path / "run.yaml") == {"a": "2026-01-31", "b": {"c": 1}, "d": {"c": 1, "e": 2}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
        ("- a\n- b\n", "not a mapping of settings"),
        ("a: [1,", "line 1: expected the node content"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[a]: 1", "line 1: a key is a word; put it in quotes"),
        ("a:\n  1: b", "line 2: a key is a word; put it in quotes"),
        ("a: &a {b: 1}\nc: {<<: [*a, *a]}", "line 2: `<<` takes one alias of a mapping"),
        ("a: [1, .nan]", "/a/1 is neither a word nor a number"),
        ("a: !!binary aGVsbG8=", "/a is neither a word nor a number"),
        ("a: " + "9" * 5000, "the limit (4300 digits)"),
        ("a: " + "9" * 50, "/a is neither a word nor a number"),
        ("a: !!int ''", "a value is not of the tag"),
        ("a: !!bool maybe", "a value is not of the tag"),
        ("a: !!timestamp x", "a value is not of the tag"),
        ("a: !!map [1]", "a value is not of the tag"),
        ("a: &a\n  b: *a", "found unconstructable recursive node"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (
            "a0: &a0 [1, 1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
            "more than 100,000 settings, aliases written out",
        ),
    ],
)
def test_a_broken_file_is_one_error(tmp_path, text, problem):
    """Duplicate keys, lists, syntax errors and Python objects are refused, each in one sentence."""
    (tmp_path / "run.yaml").write_text(text)

    with pytest.raises(DocumentError) as raised:
        read_yaml(tmp_path / "run.yaml")
    assert "\n" not in str(raised.value)
    assert problem in str(raised.value)


def test_flags_win_over_the_file():
    """A flag replaces the setting at its place and leaves the others."""
    merged = overlaid({"sae": {"k": 4, "d_sae": 64}}, {"sae.k": 8.0, "seed": None, "artifact.id": "x"})

    assert merged == {"sae": {"k": 8.0, "d_sae": 64}, "artifact": {"id": "x"}}


def test_a_value_where_a_group_is_needed_is_refused():
    """`sae: topk` with the flag --k cannot be merged."""
    with pytest.raises(UsageError, match=r"'sae' in 'sae\.k' is a value"):
        overlaid({"sae": "topk"}, {"sae.k": 8})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("d_sae", "d_sea"), "run.yaml#/sae/d_sea: unknown key 'd_sea', did you mean 'd_sae'?"),
        (("k: 4", "k: 400"), "run.yaml#/sae: `k` must be at most d_sae, and whole for topk"),
        (
            ("topk, d_sae", "jumprelu, d_sae"),
            "run.yaml#/sae: architecture 'jumprelu' has no `k`; it takes `l0_coefficient`",
        ),
        (
            ("tokens: 1000", "tokens: many"),
            "run.yaml#/optimization/tokens: 'many' is no number of tokens; write it out, or as 300K, 50M or 1.5B",
        ),
        (
            ("residual-1", "residual:1"),
            "run.yaml#/site: 'residual:1' is called 'residual-1' in the collection; write that",
        ),
        (("site: residual-1\n", ""), "run.yaml#/site: the required key 'site' is missing"),
    ],
)
def test_mistakes_in_the_settings_are_one_line(tmp_path, monkeypatch, capsys, change, line):
    """Every mistake names file, place and remedy, exits with 2 and writes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN.replace(*change))

    code = run(["train", "sae", "run.yaml", "--release", "out", "--license", "mit"])

    assert code == 2
    assert capsys.readouterr().err == f"error: {line}\n"
    assert not (tmp_path / "out").exists()


def test_a_new_release_needs_a_licence(tmp_path, monkeypatch, capsys):
    """Nothing is released without a licence: the flag is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)

    assert run(["train", "sae", "run.yaml", "--release", "out"]) == 2
    assert "give --license" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--license", "apache-2.0"), ("--name", "other"), ("--title", "Other")])
def test_a_release_that_says_something_else_is_named(tmp_path, monkeypatch, capsys, flags):
    """Words for a new release are not passed over in silence where one stands already."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    info = ReleaseInfo(name="out", version="0.1.0", title="out", license="mit")
    (tmp_path / "out").mkdir()
    empty = Manifest(schema_url=SCHEMA_URL, release=info, base_models={}, sites={}, artifacts=())
    (tmp_path / "out" / "manifest.json").write_text(empty.text())

    assert run(["train", "sae", "run.yaml", "--release", "out", *flags]) == 2
    assert f"out/manifest.json says {flags[0][2:]} " in capsys.readouterr().err.replace("\\", "/")


@pytest.mark.parametrize("flag", ["--lr", "--k"])
def test_a_flag_that_is_no_finite_number_is_one_line(tmp_path, monkeypatch, capsys, flag):
    """JSON has no word for it; it is a mistake of the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)

    assert run(["train", "sae", "run.yaml", "--release", "out", "--license", "mit", flag, "nan"]) == 2
    assert "is nan; give a finite number" in capsys.readouterr().err


def test_flags_alone_are_a_configuration(tmp_path, monkeypatch, capsys):
    """Without a file the flags go through the same schema; a missing collection is then the first problem."""
    monkeypatch.chdir(tmp_path)
    flags = {"collection": "acts", "site": "s", "architecture": "topk", "d-sae": 64, "k": 4, "tokens": 10, "id": "a"}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]

    assert run(["train", "sae", *arguments, "--release", "out", "--license", "mit"]) == 2
    assert "acts" in capsys.readouterr().err


def test_the_schema_of_the_configuration_is_printed(capsys):
    """`saereg schema train` says what may stand in the file."""
    assert run(["schema", "train"]) == 0
    assert "l0_coefficient" in json.dumps(json.loads(capsys.readouterr().out))
