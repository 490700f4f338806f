"""What can be mended, and how. Adding a fix is a function in a file of this folder and a line in FIXERS."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from saereg.registry.fixing import cards, documents
from saereg.registry.fixing.draft import Draft, Edit
from saereg.schemas.report import Finding


@dataclass(frozen=True)
class Fixer:
    """One fix.

    Attributes:
        codes: rules whose findings it mends; a finding says itself whether that is safe.
        run: yields the changed files, or nothing where this finding cannot be mended.
    """

    codes: tuple[str, ...]
    run: Callable[[Draft, Finding], Iterator[Edit]]


FIXERS = (
    Fixer(("SR103",), documents.misspelt_key),
    Fixer(("SR204",), documents.declared_type),
    Fixer(("SR215",), documents.stated_as_configured),
    Fixer(("SR411", "SR412", "SR414"), documents.measured_claim),
    Fixer(("SR418",), documents.followed_definition),
    Fixer(("SR105",), documents.schema_url),
    Fixer(("SR114",), documents.artifact_order),
    Fixer(("SR106",), documents.key_order),
    Fixer(("SR500",), cards.first_card),
    Fixer(("SR501", "SR502", "SR503", "SR504"), cards.front_matter),
    Fixer(("SR509",), cards.natural_rows),
    Fixer(("SR508",), cards.generated_blocks),
    Fixer(("SR514",), cards.artifact_card),
)
"""Every fix, in the order in which they run: values first, then order, then what is made from both. SR003, SR009 and
SR012 are mended by the index itself (`saereg.registry.fixing.index`), which follows every change."""
