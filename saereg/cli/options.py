"""What several verbs share in reading their arguments."""

from collections.abc import Sequence
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.refs import parse_reference, require_folder


def local_folder(target: str) -> Path:
    """Return the folder that a target names.

    Raises:
        UsageError: when it names something on the Hub, or a single artifact.
        NothingToValidateError: when it is not there.
    """
    reference = parse_reference(target)
    if reference.folder is None:
        raise UsageError(f"{target}: this command works on a local folder; download the release first")
    if reference.artifact is not None:
        raise UsageError(f"{target}: this command works on a whole release; name its folder, {reference.folder}")
    require_folder(reference.folder)
    return reference.folder


def settings(words: Sequence[str]) -> dict[str, str]:
    """Return name → value of `--set name=value` options.

    Raises:
        UsageError: when one has no `=`, or a name is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, mark, value = word.partition("=")
        name = name.strip()
        if not mark or not name or not value.strip():
            raise UsageError(f"--set {word}: expected name=value")
        if name in found:
            raise UsageError(f"--set {name} is given twice: {found[name]!r} and {value.strip()!r}")
        found[name] = value.strip()
    return found
