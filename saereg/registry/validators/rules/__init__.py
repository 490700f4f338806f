"""The rule book: every code, with its severity and its page. A code never changes its meaning."""

from saereg.errors import UnknownNameError
from saereg.registry.validators.rules import (
    across,
    artifact_cards,
    card_text,
    cards,
    documents,
    evidence,
    federation,
    federation_numbers,
    hub,
    layout,
    numbers,
    privacy,
    remote,
    semantics,
    snippets,
    tensors,
    withdrawal,
)
from saereg.registry.validators.rules.text import Rule, RuleText, read_rule

FAMILIES = {
    "SR0": "layout",
    "SR1": "documents",
    "SR2": "configuration against tensors",
    "SR3": "semantics",
    "SR4": "numbers",
    "SR5": "cards",
    "SR6": "the Hub",
    "SR7": "federation",
}
"""First three characters of a code → what its rules are about."""

_ALL: tuple[type[RuleText], ...] = (
    *layout.RULES,
    *privacy.RULES,
    *documents.RULES,
    *tensors.RULES,
    *semantics.RULES,
    *numbers.RULES,
    *evidence.RULES,
    *cards.RULES,
    *card_text.RULES,
    *artifact_cards.RULES,
    *snippets.RULES,
    *across.RULES,
    *hub.RULES,
    *withdrawal.RULES,
    *remote.RULES,
    *federation.RULES,
    *federation_numbers.RULES,
)

RULES: dict[str, type[RuleText]] = {rule.__name__: rule for rule in sorted(_ALL, key=lambda rule: rule.__name__)}
"""Code → rule, in the order of the codes."""


def rule(code: str) -> Rule:
    """Return a rule by its code.

    Raises:
        UnknownNameError: when there is none.
    """
    if code.upper() not in RULES:
        raise UnknownNameError("rule", code.upper(), RULES)
    return read_rule(RULES[code.upper()])
