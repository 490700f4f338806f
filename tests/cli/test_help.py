"""Help is quick, grouped and complete."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest

from saereg.cli import GROUPS, cli, main

VERBS = [verb for verbs in GROUPS.values() for verb in verbs]

MEASURING = ("build", "metrics recompute", "metrics transfer")
"""Commands that hand work to others."""

SPY = """
import json, sys
from saereg.cli import run
heavy = ("torch", "numpy", "pydantic", "huggingface_hub", "safetensors", "transformers", "sae_lens", "jsonschema")
answers = []
for words in json.loads(sys.argv[1]):
    before = set(sys.modules)
    code = run(words)
    answers.append((code, len(sys.modules), [name for name in heavy if name in sys.modules and name not in before]))
sys.stderr.write("\\n" + json.dumps(answers))
"""


def _spy(*commands: list[str]) -> list[list]:
    """Return (exit code, number of modules, heavy libraries that it imported) of each command, in one new process."""
    line = [sys.executable, "-c", SPY, json.dumps(commands)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stderr.rsplit("\n", 1)[-1])


@pytest.fixture(scope="module")
def helps():
    """Verb → what its help costs, one after the other: a library counts for the first that imports it."""
    return dict(zip(VERBS, _spy(*([verb, "--help"] for verb in VERBS)), strict=True))


def test_help_lists_every_verb_in_five_groups(saereg):
    """The groups stand in the order of a release's life."""
    answer = saereg("--help")
    places = [answer.out.index(f"\n{heading}:\n") for heading in ("Make", "Check", "Ship", "Query", "Train")]
    assert answer.code == 0
    assert places == sorted(places)
    assert list(GROUPS) == ["Make", "Check", "Ship", "Query", "Train"]
    for verbs in GROUPS.values():
        for verb, line in verbs.items():
            assert f"  {verb} " in answer.out
            assert line in " ".join(answer.out.split())


def test_help_imports_neither_torch_nor_pydantic():
    """Only click and the standard library."""
    [(code, count, heavy)] = _spy(["--help"])
    assert (code, heavy) == (0, [])
    assert count < 250


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_costs_no_torch(verb, helps):
    """Every verb of the table exists, explains itself and imports no heavy library but pydantic for it."""
    code, _, heavy = helps[verb]
    assert code == 0
    assert set(heavy) <= {"pydantic"}


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        ("--model", (*MEASURING, "metrics compare", "validate")),
        ("--device", (*MEASURING, "metrics compare", "validate")),
        ("--executor", MEASURING),
    ],
)
def test_an_option_is_the_same_wherever_it_is(option, commands):
    """Name, form and help; `train`, which makes a model's rows, has another --model."""
    found = set()
    for words in commands:
        command: click.Command = cli
        for word in words.split():
            command = command.get_command(click.Context(command), word)
        (param,) = (param for param in command.params if option in param.opts)
        found.add((param.name, param.metavar, param.help, param.default, param.multiple))
    assert len(found) == 1


def test_every_line_of_help_fits_100_columns(saereg):
    """Also the verbs' own."""
    for words in ([], *([verb] for verb in VERBS)):
        assert max(len(line) for line in saereg(*words, "--help").out.splitlines()) <= 100


def test_querying_costs_neither_torch_nor_the_hub_client(place):
    """ls reads JSON only."""
    [(code, _, heavy)] = _spy(["ls", str(place / "release")])
    assert (code, heavy) == (0, ["pydantic"])


def test_no_arguments_show_the_help_and_fail(process):
    """On stderr, because nothing was asked for."""
    answer = process()
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Usage: ")


def test_the_version_is_the_packages(saereg):
    """One version."""
    from importlib.metadata import version

    assert saereg("--version").out == f"saereg, version {version('saereg')}\n"


@pytest.mark.parametrize("name", ["saereg", "hf-saereg"])
def test_both_console_scripts_lead_to_main(name):
    """`hf-saereg` makes `hf saereg …` work."""
    (script,) = entry_points(group="console_scripts", name=name)
    assert script.load() is main
