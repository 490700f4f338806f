"""Five public releases in miniature: made honest nothing is found, and of what their authors shipped every defect."""

import json
import os
import shutil

import pytest

from saereg.registry.build import build
from saereg.registry.fixing.apply import plan_fixes
from saereg.registry.validators.runner import validate
from saereg.schemas.report import Report
from saereg.schemas.settings import Settings
from tests.cases.tools import edit, reindex
from tests.registry.validators.real_packages import domains_release, package_release, scope_release
from tests.registry.validators.real_releases import (
    GATED,
    document,
    grid_release,
    trajectory_documents,
    trajectory_release,
)

RELEASES = {
    "grid": lambda root: grid_release(root, layers=6),
    "trajectory": trajectory_release,
    "package": package_release,
    "package as published": lambda root: package_release(root, honest=False),
    "domains": domains_release,
    "scope": scope_release,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a release once; read only."""
    root, done = tmp_path_factory.mktemp("real"), {}

    def make(name: str):
        if name not in done:
            done[name] = RELEASES[name](root / name.replace(" ", "-"))
            build(done[name])
        return done[name]

    return make


@pytest.fixture
def copied(made, tmp_path):
    """A copy of a release, to plant a defect in."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(".safetensors") and "trajectory" in source else shutil.copy)(source, target)

    return lambda name: shutil.copytree(made(name), tmp_path / "release", copy_function=copy)


def found(report: Report, *left_out: str) -> dict[str, int]:
    """Code → how often, of what counts."""
    codes = [f.code for f in report.findings if not f.ignored and f.code not in left_out]
    return {code: codes.count(code) for code in sorted(set(codes))}


HONEST = {
    "grid": {},
    # Nine of the first snapshots have one pair of figures in the author's own table.
    "trajectory": {"SR401": 1, "SR403": 1, "SR415": 140},
    # These layer norms are replayed by saereg itself, not by the code that trained them.
    "package": {"SR313": 2, "SR415": 7},
    "domains": {"SR415": 6},
    "scope": {"SR415": 3},
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_release_is_left_alone(made, name):
    """Names, tables, prose and figures of real cards: nothing is found but what no reader can check."""
    assert found(validate(made(name), "weights" if name != "trajectory" else "header")) == HONEST[name]


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_release_may_be_published(made, name):
    """Under the policy of the Hub, and under the profile that it belongs to."""
    profile = "crosscoder-params" if name == "trajectory" else "base"
    report = validate(made(name), "header", settings=Settings(profile=profile, policy="hub-public"))

    assert report.summary.errors == 0


def test_claims_that_nobody_can_check_are_refused_in_a_paper(made):
    """Figures of training are no properties of the released weights."""
    report = validate(made("package"), "header", settings=Settings(policy="paper"))

    assert {f.code for f in report.findings if f.severity == "error"} == {"SR415"}


def test_every_defect_of_the_trajectory_release_is_found(copied):
    """The failed run, the copied figures, steps sorted as text, the path with braces, and the λ that became Chinese."""
    release = document(copied("trajectory"), *trajectory_documents(honest=False))
    reindex(release)

    report = validate(release)

    assert found(report, "SR401", "SR415") == {"SR114": 1, "SR403": 1, "SR432": 1, "SR507": 2, "SR511": 1}
    (failed,) = (f for f in report.findings if f.code == "SR432")
    assert failed.artifact == GATED


def test_steps_sorted_as_text_can_be_mended_beside_copied_figures(copied):
    """Another order of the manifest gives no finding a new wording."""
    release = document(copied("trajectory"), *trajectory_documents(honest=False))
    reindex(release)

    fixes = plan_fixes(release, validate(release), validate)

    assert fixes.problem is None
    assert [f.code for f in fixes.fixed] == ["SR114"]


def test_what_only_a_file_name_tells_apart_is_no_identity(copied):
    """Model, matrix, kind, width and seed are no key: the coefficients of a sweep and the variants must be fields."""
    release = copied("trajectory")

    def change(manifest: dict) -> None:
        for artifact in manifest["artifacts"]:
            artifact["sparsity"] = {}
            artifact["variant"] = None

    edit(release / "manifest.json", change)
    reindex(release)

    doubles = {f.artifact for f in validate(release, "layout").findings if f.code == "SR110"}

    sweep = "pythia-160m/W_U/lambda-sweep/d8192"
    assert {f"{sweep}/lam{value}_seed0" for value in ("1p00", "1p20", "1p35", "1p80")} <= doubles
    assert "pythia-6.9b/W_U/cross-snapshot-32/d32768/seed0-sparse" in doubles


def test_a_lambda_in_a_name_is_that_of_the_field(copied):
    """`lam0p40` of a run that was made with 0.3."""
    release = copied("trajectory")
    path = "pythia-160m/W_U/lambda-sweep/d8192/lam0p40_seed0"

    def change(manifest: dict) -> None:
        next(a for a in manifest["artifacts"] if a["id"] == path)["sparsity"] = {"l1_coefficient": 0.3}

    edit(release / "manifest.json", change)
    reindex(release)

    report = validate(release, "layout")

    assert [f.artifact for f in report.findings if f.code == "SR112"] == [path]


def test_the_recipe_that_reads_the_last_layer_behind_the_norm_is_found(made):
    """In the code and in both sentences of the card, which are right for layers 7, 15 and 23."""
    report = validate(made("package as published"), "layout")

    places = [(f.severity, f.path, f.message.partition(",")[0]) for f in report.findings if f.code == "SR304"]
    assert places == [
        ("warning", "README.md", "hidden_states[L + 1] is said of every layer"),
        ("error", "README.md", "the code reads hidden_states[32] of allenai/Olmo-3-7B-Think"),
        ("warning", "README.md", "hidden_states[L + 1] is said of every layer"),
    ]


def test_a_configuration_without_its_version_is_found(copied):
    """SAELens would drop the model, the hook and the BOS policy of all seven."""
    release = copied("package")
    for path in release.glob("*/*/*/cfg.json"):
        edit(path, lambda c: c["metadata"].pop("sae_lens_version"))
    reindex(release)

    assert found(validate(release), "SR313", "SR415") == {"SR121": 7}


def test_weights_that_are_called_tied_are_compared(copied):
    """The card of this release says so of every SAE."""
    release = copied("package")
    edit(release / "manifest.json", lambda m: [a.update(tied=True) for a in m["artifacts"]])
    reindex(release)

    assert found(validate(release, "weights"), "SR313", "SR415") == {"SR205": 7}


def test_the_wrong_canonical_pick_is_found(copied):
    """Layer 23 has a lower error with k = 128."""
    release = copied("package")

    def change(manifest: dict) -> None:
        for artifact in manifest["artifacts"]:
            if "layer_23" in artifact["id"]:
                artifact["canonical"] = not artifact["canonical"]

    edit(release / "manifest.json", change)
    reindex(release)

    assert set(found(validate(release), "SR313", "SR415")) == {"SR431"}


def test_a_grid_of_pickles_without_documents_is_found(copied):
    """Weights that run code, no licence, no library, a page read in the wrong encoding, and a gap in the index."""
    release = copied("grid")
    (release / "sae_layer00_50M.pt").write_bytes(b"PK\x03\x04")
    (release / "config.json").unlink()
    card = (release / "README.md").read_text()
    garbled = card.partition("---\n\n")[2].replace("—", "β€”").replace("→", "β†’").replace("≈", "β‰ˆ")
    (release / "README.md").write_text(garbled)

    report = validate(release, "layout")

    expected = {"SR002", "SR005", "SR501", "SR502", "SR503", "SR504", "SR507"}
    assert set(found(report)) - {"SR009"} == expected
    assert found(report)["SR507"] == 4


def test_two_names_of_one_file_are_found(copied):
    """As where an alias for the canonical one is a copy of it."""
    release = copied("scope")
    first, alias = "layer_20/width_16k/average_l0_139", "layer_20/width_16k/canonical"
    for name in ("sae_weights.safetensors", "golden.safetensors"):
        shutil.copy(release / first / name, release / alias / name)
    build(release)

    assert found(validate(release), "SR415") == {"SR007": 1}


def test_transfer_figures_of_a_card_are_no_figures_of_an_artifact(made):
    """Rows named A and B name no artifact: the table is left alone, and its numbers need a definition only."""
    card = made("domains") / "README.md"
    assert "| B | A | 0.024533 |" in card.read_text()
    assert json.loads((made("domains") / "manifest.json").read_text())["artifacts"][0]["claims"]
    assert found(validate(made("domains"), "layout")) == {}
