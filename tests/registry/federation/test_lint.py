"""What is wrong with the registry that SAELens 6.54.12 ships, by numbers; and what the Hub says of a registry."""

import importlib.metadata
import os
import subprocess
import sys
from collections import Counter

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from saereg.publishers.local_hub import local_hub
from saereg.registry.federation import lint as rules
from saereg.registry.federation import loaders, places
from saereg.registry.federation.directory import read_directory
from saereg.registry.federation.names import said_by, same_model, source_of, width_of
from saereg.registry.federation.report import NOT_ASKED, lint
from saereg.registry.validators.rules import RULES
from saereg.schemas.settings import Ignore, Settings
from tests.cases.planted.federation import HEAD, SCOPE, WHOLE, row

SHIPPED = "6.54.12"


@pytest.fixture(scope="module")
def shipped():
    """The registry of the installed SAELens, and its report."""
    if importlib.metadata.version("sae-lens") != SHIPPED:
        pytest.skip(f"the numbers are those of SAELens {SHIPPED}")
    directory = read_directory()
    return directory, lint(directory)


def test_the_shipped_registry_has_the_size_that_it_has(shipped):
    """170 releases and 13,857 rows that SAELens sees, of which 78 state an explained variance and 12,147 an L0."""
    directory, _ = shipped
    rows = [row for release in directory.seen for row in release.rows]

    assert (len(directory.seen), len(rows), len(directory.releases)) == (170, 13_857, 171)
    assert sum(row.variance_explained is not None for row in rows) == 78
    assert sum(row.l0 is not None for row in rows) == 12_147
    assert sum(row.neuronpedia is not None for row in rows) == 2_441
    assert sum(row.norm_scaling_factor is not None for row in rows) == 304


def test_the_shipped_registry_has_the_flaws_that_it_has(shipped):
    """Nine impossible explained variances, a nested release, 429 files listed twice, 3,192 groups that share an L0."""
    _, report = shipped

    assert Counter(finding.code for finding in report.findings) == {
        "SR703": 161,
        "SR704": 1,
        "SR705": 2,
        "SR706": 9,
        "SR707": 429,
        "SR708": 3_192,
        "SR712": 1,
        "SR715": 1,
    }
    assert report.release == f"sae_lens {SHIPPED} {places.FILE}"
    assert report.summary.skipped[0].reason == NOT_ASKED


def test_every_finding_points_into_the_file(shipped):
    """The line of the nested release is that of its first key; that of a number holds the number."""
    directory, report = shipped
    lines = directory.path.read_text().split("\n")
    (nested,) = [finding for finding in report.findings if finding.code == "SR704"]
    impossible = [finding for finding in report.findings if finding.code == "SR706"]

    assert nested.artifact == "gpt2-small-res_scefr-ajt:blocks.10.hook_resid_pre"
    assert lines[nested.line - 1] == "  - conversion_func: null"
    assert "3 rows, hidden from SAELens; visible rows list the same files" in nested.message
    assert all("variance_explained" in lines[finding.line - 1] for finding in impossible)
    assert all(float(lines[f.line - 1].partition(": ")[2]) == float(f.found) <= 0 for f in impossible)
    assert all(finding.path == places.FILE and finding.line <= len(lines) for finding in report.findings)


def test_no_name_of_the_shipped_registry_says_two_things(shipped):
    """Every file listed twice is the canonical pick of the release beside it; no id contradicts its path."""
    directory, report = shipped
    twice = [finding.artifact for finding in report.findings if finding.code == "SR707"]

    assert all(artifact.endswith("/canonical") and "-canonical:" in artifact for artifact in twice)
    assert {release.conversion_func for release in directory.seen} - {None} <= loaders.known_loaders()


def test_every_rule_that_needs_no_hub_is_that_of_a_check():
    """Its docstring names the codes."""
    named = " ".join(check.__doc__ for check in rules.CHECKS)

    assert [code for code in RULES if code.startswith("SR7") and code != "SR702" and code not in named] == []


def test_findings_are_selected_ignored_and_counted(tmp_path):
    """As those of a release; what is ignored stays in the report."""
    path = tmp_path / places.FILE
    path.write_text(HEAD + WHOLE.replace("0.976", "-1") + row("b", "blocks.8.hook_resid_pre"))
    both = lint(read_directory(path))
    one = lint(read_directory(path), Settings(select=("SR707",)))
    less = lint(
        read_directory(path), Settings(ignore=(Ignore(rules=("SR706",), reason="known upstream since 2026-08"),))
    )

    assert [finding.code for finding in both.findings] == ["SR706", "SR707"]
    assert [finding.code for finding in one.findings] == ["SR707"]
    assert (less.summary.errors, less.summary.ignored, less.summary.notes) == (0, 1, 1)


def test_loaders_are_read_from_the_source_or_known(monkeypatch):
    """Without SAELens those of 6.54.12 are known."""
    installed = loaders.known_loaders()
    monkeypatch.setattr(loaders, "FILE", "there/is/none.py")

    assert loaders.known_loaders() == loaders.KNOWN
    assert installed >= {"sae_lens", "gemma_2"}


NAMES = [
    ("layer_0/width_16k/average_l0_105", 0, 16_384, None, None),
    ("resid_post_all/layer_17_width_262k_l0_big", 17, 262_144, None, "residual"),
    ("layer_9/width_1m/average_l0_9", 9, 1_048_576, None, None),
    ("blocks.12.hook_resid_post__trainer_0", 12, None, "blocks.12.hook_resid_post", "residual"),
    ("gemma_2b_blocks.0.hook_resid_post_16384", 0, None, "blocks.0.hook_resid_post", "residual"),
    ("blocks.6.hook_z", 6, None, None, "attention"),
    ("Llama3_1-8B-Base-L0M-32x", 0, None, None, "mlp"),
    ("embedding/width_4k/average_l0_6", None, 4_096, None, "embedding"),
    ("gemma-2-2b_topk_width-2pow14_date-1109/resid_post_layer_12/trainer_0", 12, 16_384, None, "residual"),
    ("l0r_800m_slimpajama", None, None, None, None),
    ("layer_3/layer_4", None, None, None, None),
]


@pytest.mark.parametrize(("name", "layer", "width", "hook", "stream"), NAMES)
def test_a_name_says_what_stands_in_it_and_no_more(name, layer, width, hook, stream):
    """`l0` is a sparsity, `800m` a number of tokens, `hook_z` no hook of TransformerLens; two layers are none."""
    said = said_by(name)
    token = said.one("layer")

    assert (int(token.ranges[0][0]) if token else None) == layer
    assert (width_of(said), said.hook_name, said.stream) == (width, hook, stream)


def test_models_are_compared_whatever_they_are_called():
    """By repository, by TransformerLens' name, by Neuronpedia's."""
    assert same_model("meta-llama/Meta-Llama-3-8B-Instruct", "llama3-8b-it")
    assert same_model("google/gemma-3-4b-pt", "gemma-3-4b")
    assert same_model("openai-community/gpt2", "gpt2-small")
    assert not same_model("gpt2", "gpt2-medium")
    assert not same_model("gemma-2-9b", "gemma-2-9b-it")
    assert not same_model("google/gemma-3-4b-it", "gemma-3-4b")
    assert source_of("gemma-2-2b") is None
    assert source_of("pythia-70m-deduped/e-att-sm").layer is None


@pytest.mark.slow
def test_a_file_that_vanished_is_found_with_one_listing_per_repository(tmp_path):
    """SR702: files, folders, names that a loader makes of a path; a repository that is gone is reported once."""
    lost = "gone:\n  model: gpt2-small\n  repo_id: org/gone\n  saes:\n" + row("a", "x") + row("b", "y")
    text = SCOPE.replace("google/gemma-scope-2b-pt-res", "org/scope").replace("gemma_2", "gemma_3")
    text += row("folder", "saes/a") + row("file", "b.pt") + row("clt", "saes/c") + row("moved", "saes/d")
    again = text.partition("\n")[2].replace("gemma_3", "gemma_2").replace("moved", "elsewhere")
    path = tmp_path / places.FILE
    path.write_text(text + "again:\n" + again + lost)
    with local_hub(tmp_path / "hub") as server:
        api = HfApi(endpoint=server.url, token="hf_writer")
        api.create_repo("org/scope")
        names = ("saes/a/params.npz", "b.pt", "saes/c.safetensors")
        api.create_commit("org/scope", [CommitOperationAdd(name, b"x") for name in names], commit_message="files")
        server.requests.clear()
        command = [sys.executable, "-m", "saereg", "registry", "check", str(path), "--remote", "--select=SR702"]
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        ran = subprocess.run([*command, "--format=github"], capture_output=True, text=True, env=environment)
        trees = [request for request in server.requests if "/tree/" in str(request)]

    found = [line.partition("::error ")[2] for line in ran.stdout.splitlines() if line.startswith("::error ")]
    assert (ran.returncode, len(trees)) == (1, 1)
    assert [line.partition("%0A")[0].rpartition("::")[2] for line in found] != []
    said = "\n".join(found)
    assert said.count("has no saes/d") == 2
    assert said.count("has no saes/c") == 1  # gemma_2 makes no other name of it
    assert "org/gone, which 2 rows of the registry name, cannot be listed" in said
    assert len(found) == 4
