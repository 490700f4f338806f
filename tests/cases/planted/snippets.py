"""Cases of SR506: Python blocks of the card."""

from collections.abc import Callable
from pathlib import Path

from saereg.registry.validators.options import Options
from tests.cases.tools import Case, reindex

RUN = Options(run_snippets=True)


def _card(*blocks: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        text = (root / "README.md").read_text()
        (root / "README.md").write_text(text + "".join(f"\n```python\n{block}```\n" for block in blocks))
        reindex(root)

    return plant


CASES: dict[str, Case] = {
    "bracket_missing": Case(
        "SR506", _card('import saereg\n\nsae = saereg.load("hf://org/tiny-saes:layer_1/topk"\n'), level="layout"
    ),
    "artifact_of_an_earlier_version": Case(
        "SR506",
        _card('sae = saereg.load("hf://org/tiny-saes:layer_1/topk_3")\n'),
        level="weights",
        options=RUN,
    ),
    "session_and_magic": Case(
        "SR506",
        _card("!pip install saereg\n%time\nimport saereg\n", '>>> names[0]\n"layer_1/topk"\n'),
        level="weights",
        passes=True,
        options=RUN,
    ),
}
"""Name of the folder → what is planted, and the code that must be found, or must not."""
