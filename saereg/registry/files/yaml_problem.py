"""What PyYAML raises for a text that is no safe YAML, and the sentence for it: one list for every reader of YAML."""

import yaml

RAISED = (
    yaml.YAMLError,
    ValueError,  # bytes that are no text, a number of 5,000 digits, an impossible date
    OverflowError,
    RecursionError,
    LookupError,  # its constructors stumble over values that are not of their tag (6.0.3): !!int "", !!bool maybe,
    AttributeError,  # !!timestamp x,
    TypeError,  # !!map [1]
)
"""Everything that its loaders raise for what somebody wrote."""


def sentence(error: BaseException) -> str:
    """Return what is wrong, with the line where it is known, in one line.

    Args:
        error: one of `RAISED`.
    """
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return (f"line {mark.line + 1}: " if mark else "") + str(error.problem or error.context)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, LookupError | AttributeError | TypeError):
        return "a value is not of the tag (!!…) before it"
    return " ".join(str(error).split())
