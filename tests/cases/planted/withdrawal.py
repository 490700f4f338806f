"""Cases of the rules on what the author takes back."""

from collections.abc import Callable
from pathlib import Path

from saereg.registry.cards.card import CARD_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.withdrawn_documents import documents_with, read_documents, write_documents
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal
from tests.cases.planted.across import canonical, every, two_good
from tests.cases.tools import JUMP, TOPK, Case

MARK = {"version": "1.0.0", "artifact": TOPK, "kind": "yanked", "reason": "b_dec is zero", "date": "2026-11-21"}


def _marked(*marks: dict) -> Callable[[Path], None]:
    """Return a change after which these marks stand in the manifest, and the card tells them."""

    def plant(root: Path) -> None:
        there = read_documents(root)
        old = Manifest.from_text(there[MANIFEST_FILE].decode())
        new = old.model_copy(update={"withdrawn": tuple(Withdrawal(**MARK | mark) for mark in marks)})
        write_documents(root, documents_with(there[MANIFEST_FILE], there[INDEX_FILE], there[CARD_FILE], new))

    return plant


CASES = {
    "canonical_and_yanked": Case("SR435", every(two_good, canonical("highest ev per layer", TOPK), _marked({}))),
    "another_one_is_canonical": Case(
        "SR435", every(two_good, canonical("highest ev per layer", TOPK), _marked({"artifact": JUMP})), passes=True
    ),
    "successor_misspelt": Case("SR436", _marked({"successor": "layer_1/jumprelo"})),
    "successor_is_yanked_too": Case("SR436", _marked({"successor": JUMP}, {"artifact": JUMP})),
    "successor_is_there": Case("SR436", _marked({"successor": JUMP}, {"version": "0.9.0"}), passes=True),
    "mark_on_nothing": Case("SR436", _marked({"artifact": "layer_1/topq"})),
}
"""Name of the folder → what is planted, and the one code that must be found, or nothing."""
