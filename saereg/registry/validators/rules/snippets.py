"""SR5: the Python blocks of a card."""

from saereg.registry.validators.rules.text import RuleText


class SR506(RuleText):
    """A Python block of the card does not run.

    Every block of README.md that is marked as Python must compile. Prompts (`>>>`) and their output, lines for a shell
    or notebook (`!pip`, `%time`) and `...` are understood. This is looked at in every run.

    With `--run-snippets`, at level weights, the blocks are also run: all of them in their order, as in a notebook, by a
    process of its own with a time limit. It has no network, no token of yours and no GPU; it works in a folder that
    holds the release, and finds it in a cache of the Hub under the name that the blocks use for it, at any revision.
    The flag is never taken from a configuration file, because a card is somebody else's code: the process refuses what
    would leave it, but code that is made to do harm needs a virtual machine. Without the flag, nothing is run and
    nothing is said.

    What this machine lacks is no fault of the card: a library that is not installed, the weights of a base model, a
    CUDA device or more time. The report then says which block was skipped and why. So it does for a block that begins
    with the words python and no-run, that has `<!-- saereg: not run -->` on the line before it, or that leaves an
    argument out by `...`.

    Why: The block under "How to use" is what every reader copies first. A renamed function, a path of an earlier
    version or a bracket that is missing costs each of them the same half hour, and some of them the wish to go on.

    Fix: Correct the statement at that line, and try it with `saereg validate . --level weights --run-snippets`.

    Bad: README.md
        ```python
        sae = saereg.load("hf://org/example-saes:layer_6/topk_64"
        ```

    Good: README.md
        ```python
        sae = saereg.load("hf://org/example-saes:layer_6/topk_64")
        ```
    """

    severity = "error"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (SR506,)
"""The rules of this file."""
