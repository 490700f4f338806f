"""What a row says between the lines, in the word for its kind and in its id or path: all of it is inferred. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from saereg.registry.naming import Fact, Token, architectures_of, tokens_of


@dataclass(frozen=True, slots=True)
class Inferred:
    """A value that a source does not say in so many words.

    Attributes:
        field: its field.
        value: the value.
        because: what it was read from, e.g. `kind: cross-snapshot-32`.
    """

    field: str
    value: Any
    because: str


KINDS: tuple[tuple[re.Pattern[str], dict[str, str]], ...] = tuple(
    (re.compile(pattern), facts)
    for pattern, facts in (
        (r"saes?|sparse[-_ ]autoencoders?|transcoders?|crosscoders?", {}),
        (r"cross[-_](?P<axis>snapshot|layer|model)s?(?:[-_](?P<count>[0-9]{1,5}))?(?:[-_](?P<rest>.+))?",
         {"kind": "crosscoder"}),
        (r"w[ue][-_]crosscoders?", {"kind": "crosscoder", "axis": "snapshot"}),
        (r"per[-_]snapshot(?:[-_](?:saes?|(?P<rest>.+)))?", {"kind": "sae"}),
        (r"(?P<rest>final[-_]snapshot)(?:[-_]saes?)?", {"kind": "sae"}),
    )
)  # fmt: skip
"""Word for a kind → what it says. Anything else, such as `lambda-sweep`, names an experiment and no kind."""

PER_SNAPSHOT = re.compile(r"per[-_]snapshot")

_PLAIN = {"sae": "sae", "sparse": "sae", "transcoder": "transcoder", "crosscoder": "crosscoder"}

_FIELD_OF: dict[Fact, str] = {"layer": "layer", "width": "d_sae", "k": "k", "seed": "seed", "l1": "l1_coefficient"}

_ARCHITECTURE_WORD = re.compile(r"(?:batch|abs)?_?top_?k|jump_?relu|gated|matryoshka")

_UNAMBIGUOUS = ("topk", "abstopk", "batchtopk", "jumprelu", "gated")


@lru_cache(maxsize=1024)
def of_kind(word: str, because: str) -> tuple[Inferred, ...]:
    """Return what the word for a kind says: kind, axis, number of sources, variant."""
    bare = re.sub(r"/.*$", "", word.strip().lower().replace(" ", "-"))  # `architecture-comparison/d8192`
    if re.fullmatch(r"cross[-_]layer[-_]transcoders?|clts?", bare):
        return ()  # neither of our kinds
    for pattern, facts in KINDS:
        if match := pattern.fullmatch(bare):
            named = match.groupdict()
            found: dict[str, Any] = facts or {"kind": _PLAIN[re.split(r"[-_ ]|s$", bare)[0]]}
            found = found | ({"axis": named["axis"]} if named.get("axis") else {})
            found |= {"n_sources": int(named["count"])} if named.get("count") else {}
            found |= {"variant": named["rest"]} if named.get("rest") else {}
            return tuple(Inferred(field, value, because) for field, value in found.items())
    return (Inferred("variant", bare, because),) if bare else ()


def of_name(name: str, key: str, *, per_snapshot: bool) -> Iterator[Inferred]:
    """Yield what an id or a path says.

    Args:
        name: the id or path.
        key: `id` or `path`.
        per_snapshot: whether a step in it is the pretraining step of the base model.
    """
    found = tokens_of(name)
    for fact, tokens in found.items():
        field = "model_step" if fact == "step" and per_snapshot else _FIELD_OF.get(fact)
        value = _value(fact, tokens)
        if field is not None and value is not None:
            yield Inferred(field, value, f"{key}: {tokens[0].text}")
    words = architectures_of(name)
    if len(words) == 1 and words[0] in _UNAMBIGUOUS:
        yield Inferred("architecture", words[0], f"{key}: {words[0]}")
    if rest := _rest(name):
        yield Inferred("variant", rest, f"{key}: {name}")


def _value(fact: Fact, tokens: tuple[Token, ...]) -> int | float | None:
    """Return the one number that a name states; None where it states several, or a rounded one such as `131k`."""
    ranges = {one for token in tokens for one in token.ranges}
    if len(ranges) != 1:
        return None
    low, high = ranges.pop()
    if fact in ("l1", "k"):
        return round((low + high) / 2, 12)
    return int(low) if low == high and low < 2**53 else None


def _rest(name: str) -> str:
    """Return the words beside those that state a number: `sparse` of `d32768/seed0-sparse`."""
    return "-".join(dict.fromkeys(word for folder in name.split("/") for word in _rest_of(folder)))


@lru_cache(maxsize=16_384)
def _rest_of(folder: str) -> tuple[str, ...]:
    found = {fact: tokens for fact, tokens in tokens_of(folder).items() if fact != "snapshot"}  # `160m` is a size
    stated = [token.text for tokens in found.values() for token in tokens]
    if not stated and not architectures_of(folder):
        return ()
    rest = folder
    for text in sorted(stated, key=len, reverse=True):
        rest = rest.replace(text, " ", 1)
    rest = _ARCHITECTURE_WORD.sub(" ", rest, count=1) if architectures_of(folder) else rest
    return tuple(re.findall(r"[A-Za-z0-9][A-Za-z0-9.]*(?:[-_][A-Za-z0-9.]+)*", rest))
