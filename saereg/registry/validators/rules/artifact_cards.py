"""SR5: the card of a single artifact, in its folder."""

from saereg.registry.validators.rules.text import RuleText


class SR514(RuleText):
    """The card of an artifact is not what manifest and index say now.

    Looked at is the README.md in the folder of an artifact, where it has a part between
    `<!-- saereg:begin artifact -->` and `<!-- saereg:end artifact -->`: this must be what `saereg build` would write,
    and an artifact that is withdrawn must have the warning above it. Marks that are not closed, or name no generated
    part, are reported too. What an author writes around the marks is left alone, and so is a part that a template of
    the author's own made, or another version of saereg. A card without marks is the author's.

    Why: Whoever is sent to one dictionary reads this card alone. One that names an earlier number, another digest or a
    loading recipe for other switches, or does not say that the artifact was taken back, makes them use what they would
    not have used.

    Fix: Run `saereg build`, or `saereg validate --fix`, which write the part again.

    Bad: layer_1/topk/README.md (the index says 0.7124)
        | `explained_variance` | 0.6954 |

    Good: layer_1/topk/README.md (the index says 0.7124)
        | `explained_variance` | 0.7124 |
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


RULES: tuple[type[RuleText], ...] = (SR514,)
"""The rules of this file."""
