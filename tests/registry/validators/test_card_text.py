"""What in the text of a card is reported as a path for a shell."""

import pytest

from saereg.registry.files.place import FolderPlace
from saereg.registry.validators.checks.card_text import MOST_PATTERNS, paths_literal
from saereg.registry.validators.options import Options
from saereg.registry.validators.runner import validate
from saereg.registry.validators.subject import ReleaseSubject
from tests.releases import tiny_release

FILES = ("W_U/seed0.safetensors", "layer_1/topk/cfg.json", "layer_1/topk/sae_weights.safetensors")


@pytest.fixture
def found(tmp_path):
    """Return what SR511 finds in the text of a card."""
    for path in FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()

    def find(text: str) -> list[str | None]:
        (tmp_path / "README.md").write_text(text)
        return [finding.found for finding in paths_literal(ReleaseSubject(FolderPlace(tmp_path), Options()))]

    return find


@pytest.mark.parametrize(
    "text",
    ["layer_<N>/{cfg.json,sae_weights.safetensors}", "…/trainer_0/{ae.pt,config.json}", "*.npz", "**", "layer_1/*.json",
     "topk/*.safetensors", "google/gemma-scope-{2b,9b}-{pt,it}-res", "trainers/{top_k,batch_top_k}.py"],
)  # fmt: skip
def test_shapes_of_paths_kinds_of_files_and_names_of_repositories_are_no_paths_of_files(found, text):
    assert found(f"# t\n\nAs in `{text}` there.\n\n| a |\n|---|\n| `{text}` |\n") == []


@pytest.mark.parametrize(
    "text",
    ["W_U/seed{0..4}.safetensors", "W_U/seed{0,1}", "W_V/seed{0..4}", "layer_{1,2}/topk", "layer_2/*/cfg.json",
     "W_V/{a,b}.json", "layer_1/topk/*.pt"],
)  # fmt: skip
def test_a_path_with_braces_or_with_a_star_that_fits_nothing_is_told_of_once_a_line(found, text):
    assert found(f"# t\n\nAs in `{text}` there.\n") == [text]


def test_code_that_a_shell_runs_is_no_path(found):
    assert found("# t\n\nRun `cp W_U/seed{0,1}.safetensors .` first.\n") == []


def test_of_many_patterns_only_the_first_are_told_of(found):
    rows = "".join(f"| `layer_9/{i}/*.json` |\n" for i in range(MOST_PATTERNS + 5))

    assert len(found(f"| a |\n|---|\n{rows}")) == MOST_PATTERNS


def test_braces_that_never_close_are_no_paths(tmp_path):
    """200 kB of them: looked through once."""
    release = tiny_release(tmp_path, checkpoints=False)
    (release / "README.md").write_text((release / "README.md").read_text() + "\n" + "{" * 200_000 + "\n")

    assert "SR511" not in {finding.code for finding in validate(release, "layout").findings}
