"""What several verbs share in reading their arguments."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.refs import parse_reference, require_folder

if TYPE_CHECKING:
    from saereg.schemas.manifest import Manifest

model_option = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="KEY=WHERE",
    help="Weights of a base model, for evaluations of tokens and parameters: a folder, or hf://org/name. Repeat it.",
)
"""Where base models are; `models` reads it."""

executor_option = click.option(
    "--executor", metavar="WHO", help="local:N, that many processes here, or dask://HOST:PORT, workers of a scheduler."
)
"""Who does the work; `saereg.registry.work.opening.open_executor` reads it."""


where_option = click.option(
    "--where", multiple=True, help="Condition such as 'l0 < 64 and not canonical'; repeatable, all must hold."
)
"""Which artifacts; `saereg.registry.query.meeting` reads it."""

catalog_option = click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    help="File of the catalogue.  [default: $SAEREG_CATALOG, or catalog.sqlite in the user's data folder]",
)
"""Which catalogue; None is that of `saereg.registry.catalog.store.catalog_path`."""


def _with_numbers(_context: object, _option: object, device: str) -> str:
    """Refuse the one device of torch's that computes nothing."""
    if device.partition(":")[0] == "meta":
        raise UsageError(f"device {device!r} holds no numbers: nothing can be measured on it")
    return device


device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_with_numbers,
    help="Torch device on which metrics are computed: cpu, cuda, mps.",
)
"""On what dictionaries and base models are run over rows."""


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


def models(words: Sequence[str]) -> dict[str, str]:
    """Return key of a base model → folder or repository of `--model KEY=WHERE` options.

    Args:
        words: what was given; a folder is one of checkpoints, a repository is `org/name` on the Hub.

    Raises:
        UsageError: when one has no `=`, or a key is given twice.
    """
    return named(words, "--model", "KEY=PATH or KEY=hf://org/name")


def require_known_models(given: Collection[str], manifests: Iterable["Manifest"]) -> None:
    """Refuse a `--model` whose key none of the releases has: it would be ignored.

    Raises:
        UsageError: naming the keys that there are.
    """
    known = {key for manifest in manifests for key in manifest.base_models}
    for key in given:
        if not known:
            raise UsageError(f"--model {key}: the release names no base model")
        if key not in known:
            raise UnknownNameError("base model of --model", key, known)


def again(options: Mapping[str, str | Sequence[str] | None]) -> tuple[str, ...]:
    """Return options as words of a command line; those that were not given are left out.

    Args:
        options: option → its value, or all of them.
    """
    found: list[str] = []
    for option, value in options.items():
        values = (value,) if isinstance(value, str) else value or ()
        found += [word for one in values for word in (option, one)]
    return tuple(found)


def named(words: Sequence[str], option: str, form: str) -> dict[str, str]:
    """Return name → value of options of the form NAME=VALUE.

    Raises:
        UsageError: when one has no `=`, or a name is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or not name.strip() or not value.strip():
            raise UsageError(f"{option} {word}: expected {form}")
        if name.strip() in found:
            raise UsageError(f"{option} {name.strip()} is given twice: {found[name.strip()]!r} and {value.strip()!r}")
        found[name.strip()] = value.strip()
    return found
