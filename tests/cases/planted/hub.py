"""Cases of the rules in `rules/hub.py`; what is too large for git is in `registry/validators/test_hub_limits.py`."""

from collections.abc import Callable
from pathlib import Path

from saereg.registry.build import build
from tests.cases.tools import Case, text

MODEL_INDEX = """model-index:
- name: tiny
  results:
  - task: {type: other}
    dataset: {type: tiny/text, name: Tiny text}
    metrics:
    - {type: l0, value: 3.0}
"""


def _head(more: str) -> Callable[[Path], None]:
    """Return a change that adds lines to the front matter."""
    return text("README.md", "license: mit\n", f"license: mit\n{more}")


def _noted(root: Path) -> None:
    (root / "600GB.txt").write_text("What the activations took.\n")
    build(root)


CASES: dict[str, Case] = {
    "dataset_in_prose": Case("SR513", text("README.md", "- tiny/text", "- tiny/text\n- the Pile, deduplicated")),
    "base_model_is_a_path": Case(
        "SR513", text("README.md", "base_model: tiny/model", "base_model: [tiny/model, ./runs/model]")
    ),
    "language_with_a_country": Case("SR513", _head("language: [en, pt-BR]\n")),
    "language_without_a_value": Case("SR513", _head("language:\n")),
    "tag_with_a_colon": Case("SR513", text("README.md", "- saereg\n", "- saereg\n- width: 10\n")),
    "result_of_no_data_set": Case("SR513", _head(MODEL_INDEX.replace("type: tiny/text, ", ""))),
    "model_index_of_one_model": Case("SR513", _head(MODEL_INDEX.replace("- name", "  name").replace("\n-", "\n  -"))),
    "metric_of_no_value": Case("SR513", _head(MODEL_INDEX.replace(", value: 3.0", ""))),
    "all_that_the_hub_reads": Case(
        "SR513", _head(f"language: [en, no, zh-hans, multilingual]\n{MODEL_INDEX}"), passes=True
    ),
    "old_ids_without_an_owner": Case(
        "SR513", text("README.md", "- tiny/text", "- tiny/text\n- wikitext\n- c4"), passes=True
    ),
    "speaks_of_sizes": Case("SR605", _noted, passes=True),
}
"""Name of the folder → what is planted, the code it is about, and whether it must be found."""
