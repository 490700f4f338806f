"""What an id or a path says in so many words: `layer_12/width_16k/topk_64` names a layer, a width and a k. Pure.

Only what cannot be read otherwise is taken: `l0` is a sparsity and no layer, a model's `410m` is no snapshot,
`trainer_3` says nothing. Nothing may rely on what stands here; it serves to find names that contradict the fields.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Fact = Literal["layer", "width", "k", "seed", "l1", "step", "sources", "snapshot"]


@dataclass(frozen=True)
class Token:
    """One statement of a name.

    Attributes:
        text: how it is written.
        ranges: (smallest, largest) number that it can stand for; several where `16k` may be 16,000 or 16,384.
    """

    text: str
    ranges: tuple[tuple[float, float], ...]

    def fits(self, value: float) -> bool:
        """Whether it can stand for a number."""
        return any(low <= value <= high for low, high in self.ranges)

    def meets(self, other: "Token") -> bool:
        """Whether both can stand for one number."""
        return any(a <= d and c <= b for a, b in self.ranges for c, d in other.ranges)


_START, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_FLOAT = r"[0-9]+(?:[.p][0-9]+)?(?:e[+-]?[0-9]+)?"

_TOKENS = re.compile(
    f"{_START}(?:"
    rf"(?:layer[_.\-]?|layers\.|blocks?[._\-])(?P<layer>[0-9]{{1,4}}){_END}"
    rf"|L(?P<layer_short>[0-9]{{1,4}})(?P<layer_site>[RAM]|TC)?{_END}"
    rf"|(?:(?:width|d_?sae)[_\-=]?(?P<width>[0-9]+)(?P<unit>[kKmM]?)|width[_\-]?2pow(?P<power>[0-9]{{1,2}}))(?![A-Za-z0-9.])"
    rf"|d(?P<size>[0-9]{{3,8}}){_END}"
    rf"|(?:k[_\-=]?|[A-Za-z]*[Tt]op[_\-]?[Kk][_\-=]?)(?P<k>[0-9]{{1,7}})(?![A-Za-z0-9.])"
    rf"|seed[_\-=]?(?P<seed>[0-9]{{1,18}}){_END}"
    rf"|(?:lam(?:bda)?[_\-=]?|l1[_\-=])(?P<l1>{_FLOAT})(?![A-Za-z0-9.])"
    rf"|step[_\-=]?(?P<step>[0-9]{{1,15}}){_END}"
    rf"|cross[_\-](?:snapshot|layer|model)s?[_\-](?P<sources>[0-9]{{1,5}}){_END}"
    r")"
)

_SNAPSHOT = re.compile(r"(?:^|[_\-./])(?P<snapshot>[0-9]+(?:\.[0-9]+)?[MBmb]|final)$")
"""A moment of the dictionary's own training stands at the end of a name; elsewhere `410m` is the size of a model."""

_UNITS = {"k": (1000, 1024), "m": (1000**2, 1024**2)}


def tokens_of(name: str) -> Mapping[Fact, tuple[Token, ...]]:
    """Return what a name says: fact → every token that states it, in their order."""
    found: dict[Fact, tuple[Token, ...]] = {}
    folders = name.split("/")
    for folder in folders:
        for fact, token in _of_folder(folder):
            found[fact] = (*found[fact], token) if fact in found else (token,)
    moment = _moment(folders[-1])
    return found | {"snapshot": (moment,)} if moment else found


@lru_cache(maxsize=16_384)
def _of_folder(name: str) -> tuple[tuple[Fact, Token], ...]:
    """Return what one folder's name says; the folders of a sweep repeat each other."""
    found = []
    for match in _TOKENS.finditer(name):
        group = match.lastgroup or ""
        make = _MAKERS["layer_short" if group == "layer_site" else "width" if group == "unit" else group]
        made = make(match.group(), match.groupdict())
        if made is not None:
            found.append(made)
    return tuple(found)


@lru_cache(maxsize=16_384)
def _moment(name: str) -> Token | None:
    match = _SNAPSHOT.search(name)
    if match is None:
        return None
    text = match["snapshot"]
    number = float("inf") if text == "final" else float(text[:-1]) * (1e6 if text[-1] in "mM" else 1e9)
    return Token(text, ((number, number),))


Made = tuple[Fact, Token] | None

Groups = Mapping[str, str | None]


def _exact(fact: Fact, group: str) -> Callable[[str, Groups], Made]:
    def make(text: str, groups: Groups) -> Made:
        value = float(groups[group] or 0)
        return fact, Token(text, ((value, value),))

    return make


def _layer(text: str, groups: Groups) -> Made:
    """`L12` is a layer, `L0R` is one of Llama Scope; `L0`, `L1` and `L2` alone are norms and penalties."""
    value = float(groups["layer_short"] or 0)
    return ("layer", Token(text, ((value, value),))) if groups["layer_site"] or value > 2 else None


def _width(text: str, groups: Groups) -> Made:
    value, unit = int(groups["width"] or 0), (groups["unit"] or "").lower()
    if unit:
        # `16k` is 16,384, `163k` 163,840 and `262k` 262,144: rounded up or down, by thousands or by 1,024.
        low, high = max(value - 0.5, 0.95 * value), min(value + 1, 1.25 * value)
        return "width", Token(text, tuple((low * one, high * one) for one in _UNITS[unit]))
    return ("width", Token(text, ((value, value),))) if value >= 100 else None


def _power(text: str, groups: Groups) -> Made:
    value = float(2 ** int(groups["power"] or 0))
    return "width", Token(text, ((value, value),))


def _k(text: str, groups: Groups) -> Made:
    """`topk_2` may count runs; a k is larger, or written `k2`."""
    value = float(groups["k"] or 0)
    return ("k", Token(text, ((value, value),))) if value > (0 if text[0] == "k" else 3) else None


def _l1(text: str, groups: Groups) -> Made:
    """`lam0p40`, `l1_0.3`, `lambda_8e-05`, each to its last digit; a whole number may count runs."""
    written = groups["l1"] or ""
    if not re.search(r"[.pe]", written):
        return None
    mantissa, _, exponent = written.replace("p", ".").partition("e")
    value, scale = float(mantissa), 10.0 ** max(min(int(exponent or 0), 300), -300)
    half = 0.5 * 10.0 ** -len(mantissa.partition(".")[2])
    return "l1", Token(text, (((value - half) * scale, (value + half) * scale),))


_MAKERS: Mapping[str, Callable[[str, Groups], Made]] = {
    "layer": _exact("layer", "layer"),
    "layer_short": _layer,
    "width": _width,
    "power": _power,
    "size": _exact("width", "size"),
    "k": _k,
    "seed": _exact("seed", "seed"),
    "l1": _l1,
    "step": _exact("step", "step"),
    "sources": _exact("sources", "sources"),
}

TOPK_FAMILY = ("topk", "abstopk", "batchtopk", "jumprelu")
"""What a dictionary called TopK may be in the end: BatchTopK and TopK ones are often released as JumpReLU."""

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "topk": TOPK_FAMILY,
    "abstopk": ("abstopk",),
    "batchtopk": ("batchtopk", "jumprelu"),
    "matryoshka": ("matryoshka", "batchtopk", "jumprelu", "topk", "standard"),
    "jumprelu": ("jumprelu",),
    "gated": ("gated",),
}
"""Word → what the architecture contains when the word is right."""

_WORDS = re.compile(
    r"(?P<word>(?:batch|abs)?topk|batch_topk|batch_top_k|jump_?relu|gated|matryoshka)"
    r"(?=[_\-]?[0-9]*(?:$|[_\-](?:[0-9]|seed|raw|retuned|layernorm|sae|lam|l1|l0|k|d|width|step|final)))"
)
"""An architecture at the start of a folder's name, not a word inside one such as `gated-mlp` or `topk-vs-relu`."""


def architectures_of(name: str) -> tuple[str, ...]:
    """Return the words of `ARCHITECTURES` that a name uses for what it names."""
    found = (_word(folder) for folder in name.split("/"))
    return tuple(dict.fromkeys(word for word in found if word))


@lru_cache(maxsize=16_384)
def _word(name: str) -> str | None:
    match = _WORDS.match(name)
    return match["word"].replace("_", "") if match else None


def architecture_fits(word: str, architecture: str) -> bool:
    """Whether a word of a name can be that of an architecture."""
    return any(part in architecture for part in ARCHITECTURES[word])
