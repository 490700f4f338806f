"""Values of other inventories in the types of our fields; what does not fit exactly is refused, never rounded. Pure."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from saereg.schemas.manifest import Architecture

ABSENT = (None, "", "-", "–", "—", "n/a", "N/A", "null", "none given")
"""What a cell holds that says nothing."""

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"

_PAIR = re.compile(rf"(?P<name>[A-Za-z][A-Za-z0-9_ ]*?)\s*[:=]?\s+(?P<value>{_NUMBER})")

_ARCHITECTURES: dict[str, str] = {name.replace("_", ""): name for name in get_args(Architecture)} | {
    "relu": "standard",
    "vanilla": "standard",
    "matryoshka": "matryoshka_batchtopk",
}
"""How an architecture is written, without anything between its words → what it is called here."""


class MisfitError(Exception):
    """Why a value is not one of its field."""


def text(value: Any) -> str:  # noqa: ANN401 - a value of JSON
    """Return a text.

    Raises:
        MisfitError: when it is none.
    """
    if not isinstance(value, str):
        raise MisfitError("no text")
    return value


def whole(value: Any) -> int:  # noqa: ANN401
    """Return a whole number from 0: `131k` is none, since 131,072 and 131,000 are both written so.

    Raises:
        MisfitError: when it is none.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18}", value.strip()):
        value = int(value.replace(",", ""))
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9.]+\s*[kKmMbB]\s*", value):
        raise MisfitError("a rounded number: it could stand for several")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise MisfitError("no whole number from 0")
    return value


def positive(value: Any) -> int:  # noqa: ANN401
    """Return a whole number from 1.

    Raises:
        MisfitError: when it is none.
    """
    if (found := whole(value)) == 0:
        raise MisfitError("no whole number from 1")
    return found


def number(value: Any) -> float:  # noqa: ANN401
    """Return a finite number.

    Raises:
        MisfitError: when it is none.
    """
    if isinstance(value, str) and re.fullmatch(_NUMBER, value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise MisfitError("no number")
    return float(value)


def above_zero(value: Any) -> float:  # noqa: ANN401
    """Return a finite number above 0.

    Raises:
        MisfitError: when it is none.
    """
    if (found := number(value)) <= 0:
        raise MisfitError("no number above 0")
    return found


def from_zero(value: Any) -> float:  # noqa: ANN401
    """Return a finite number from 0.

    Raises:
        MisfitError: when it is none.
    """
    if (found := number(value)) < 0:
        raise MisfitError("no number from 0")
    return found


def switch(value: Any) -> bool:  # noqa: ANN401
    """Return yes or no.

    Raises:
        MisfitError: when it is neither.
    """
    said = {"yes": True, "true": True, "no": False, "false": False}.get(str(value).strip().lower())
    if said is None:
        raise MisfitError("neither yes nor no")
    return said


def steps(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Return pretraining steps, which rise as numbers.

    Raises:
        MisfitError: when they are none.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]+(?:\s*,\s*[0-9]+)*\s*", value):
        value = [int(part) for part in value.split(",")]
    if not isinstance(value, list) or not value:
        raise MisfitError("no list of steps")
    found = tuple(whole(step) for step in value)
    if list(found) != sorted(set(found)):
        raise MisfitError("steps that do not rise as numbers")
    return found


def architecture(value: Any) -> str:  # noqa: ANN401
    """Return an architecture in our words; `TopK`, `top_k`, `Tied TopK sparse autoencoder` are all `topk`.

    Raises:
        MisfitError: when there is none of that name.
    """
    words = re.sub(r"[^a-z0-9]+", "", text(value).lower())
    words = re.sub(r"^tied|(?:sparseautoencoders?|saes?|crosscoders?)$", "", words)
    if words not in _ARCHITECTURES:
        raise MisfitError("no architecture that is known here")
    return _ARCHITECTURES[words]


def sha256(value: Any) -> str:  # noqa: ANN401
    """Return a digest.

    Raises:
        MisfitError: when it is none.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", text(value)):
        raise MisfitError("no sha256 of 64 digits")
    return text(value)


def revision(value: Any) -> str:  # noqa: ANN401
    """Return a commit.

    Raises:
        MisfitError: when it is none: a branch moves.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", text(value)):
        raise MisfitError("no commit of 40 digits")
    return text(value)


def pairs(value: Any) -> tuple[tuple[str, float], ...]:  # noqa: ANN401
    """Return the numbers of a text such as `EV 0.853 / L0 557`: (name, number).

    Raises:
        MisfitError: when any part of it is something else, or a name stands there twice.
    """
    found = []
    for part in re.split(r"[/;,|]", text(value)):
        match = _PAIR.fullmatch(part.strip())
        if match is None:
            raise MisfitError("no numbers with names, such as EV 0.85 / L0 557")
        found.append((match["name"].strip(), number(match["value"])))
    if len({name for name, _ in found}) != len(found):
        raise MisfitError("two numbers of one name")
    return tuple(found)


CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("layer", "seed", "model_step", "size", "tokens", "training_steps"), whole),
    **dict.fromkeys(("d_in", "d_out", "d_sae", "n_sources", "batch_size", "rows"), positive),
    **dict.fromkeys(("k", "target_l0", "lr"), above_zero),
    **dict.fromkeys(("l1_coefficient", "l0_coefficient"), from_zero),
    **dict.fromkeys(("canonical", "tied"), switch),
    **dict.fromkeys(("source_sha256", "weights_sha256"), sha256),
    "model_revision": revision,
    "steps": steps,
    "architecture": architecture,
    "quality": pairs,
}
"""Field → what reads its value; those that are not here are texts."""


def converted(field: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value in the type of its field.

    Raises:
        MisfitError: saying what it is not.
    """
    reader: Callable[[Any], Any] = CONVERTERS.get(field, text)
    return reader(value)
