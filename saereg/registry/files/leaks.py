"""Secrets in a text, by exact patterns alone: no measure of randomness, which would take every sha256 for a key.

Every pattern is linear: it starts at a literal, and each repetition in it is bounded. What is found is told by its kind
and place; the secret itself goes nowhere.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

MOST_READ = 5 * 1024 * 1024
"""Bytes of a file that are looked at, from its start."""

MASK = "[secret]"
"""What stands in the place of a secret where a text that holds one must be shown."""


@dataclass(frozen=True)
class Leak:
    """A secret in a text.

    Attributes:
        kind: what it is, with its article.
        start: where the secret itself begins.
        stop: where it ends.
    """

    kind: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Pattern:
    """How one kind of secret is written.

    Attributes:
        kind: what it is, with its article.
        markers: texts in small letters, one of which stands in any text that can match.
        regex: the pattern; its group 1, or else the whole, is the secret.
        plain: whether a match counts as it is: a key header is no placeholder.
    """

    kind: str
    markers: tuple[str, ...]
    regex: re.Pattern[str]
    plain: bool = False


def _pattern(kind: str, markers: str, regex: str, *, plain: bool = False) -> _Pattern:
    return _Pattern(kind, tuple(markers.split()), re.compile(regex), plain)


_EXAMPLE_HOST = r"(?:[A-Za-z0-9-]{1,63}\.){0,5}example\.(?:com|net|org)(?![A-Za-z0-9.-])"
"""Names that are set aside for manuals: nobody has a password there."""

_W, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"

_EXACT = (
    _pattern(
        "a private key", "-----begin", r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----", plain=True
    ),
    _pattern("a Hugging Face token", "hf_oauth_ hf_jwt_", _W + r"(hf_(?:oauth|jwt)_[A-Za-z0-9._-]{20,4000})"),
    _pattern("a Hugging Face token", "hf_", _W + r"(hf_[A-Za-z0-9]{30,100})" + _END),
    _pattern("a Hugging Face token", "api_org_", _W + r"(api_org_[A-Za-z0-9]{30,100})" + _END),
    _pattern("a Weights & Biases key", "wandb_v1_", _W + r"(wandb_v1_[A-Za-z0-9_-]{40,200})"),
    _pattern(
        "a Weights & Biases key",
        "wandb",
        r"(?i:wandb[_.-]?api[_.-]?key|wandb[_.-]key|wandb[_. ]login)[^\n]{0,24}?" + _W + r"([0-9a-f]{40})" + _END,
    ),
    _pattern(
        "a Weights & Biases key",
        "wandb.ai",
        r"wandb\.ai\s{1,8}(?:login\s{1,8}\S{1,40}\s{1,8})?password\s{1,8}([0-9a-f]{40})" + _END,
    ),
    _pattern("an Anthropic key", "sk-ant-", _W + r"(sk-ant-[a-z0-9]{2,12}-[A-Za-z0-9_-]{20,300})"),
    _pattern(
        "an OpenAI key",
        "sk-",
        r"(?<![A-Za-z0-9_-])(sk-(?:(?:proj|svcacct|admin|or-v1)-[A-Za-z0-9_-]{20,300}|[A-Za-z0-9]{32,100}(?![\w-])))",
    ),
    _pattern("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", _W + r"(gh[pousr]_[A-Za-z0-9]{36,255})" + _END),
    _pattern("a GitHub token", "github_pat_", _W + r"(github_pat_[A-Za-z0-9_]{22,255})"),
    _pattern("a GitLab token", "glpat-", _W + r"(glpat-[A-Za-z0-9_-]{20,100})"),
    _pattern("a PyPI token", "pypi-age", _W + r"(pypi-AgE[A-Za-z0-9_-]{50,400})"),
    _pattern("an AWS access key", "akia asia", _W + r"((?:AKIA|ASIA)[A-Z0-9]{16})" + _END),
    _pattern(
        "an AWS secret key",
        "aws_secret_access_key awssecretkey secretaccesskey",
        r"(?i:aws_?secret_?(?:access_?)?key|secretaccesskey)[^\n]{0,12}?(?<![A-Za-z0-9/+])([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
    ),
    _pattern("a Slack token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", _W + r"(xox[abeoprs]-[A-Za-z0-9-]{10,200})"),
    _pattern("a Slack webhook", "hooks.slack.com", r"hooks\.slack\.com/services/(T\w{6,20}/B\w{6,20}/\w{16,40})"),
    _pattern("a Google key", "aiza", _W + r"(AIza[A-Za-z0-9_-]{35})(?![A-Za-z0-9_-])"),
    _pattern(
        "a signed token",
        "eyj",
        r"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000})",
    ),
    _pattern(
        "a password in a URL",
        "://",
        r"://[^\s/:@\"'<>`\\]{0,64}:([^\s/@\"'<>`\\]{3,128})@(?!" + _EXAMPLE_HOST + r")[A-Za-z0-9\[]",
    ),
)

_ASSIGNED = re.compile(
    r"(?i:password|passwd|passphrase|secret(?:_?(?:access_?)?key)?|token|api[_-]?key|access[_-]?key)"
    r"[\"']?\]?\s{0,4}[:=]\s{0,4}([\"']?)([A-Za-z0-9+/=_\-.~!@#$%^&*]{12,200})([\"'(\[]?)"
)
"""Name, `=` or `:`, and a literal value; which of them count is said in `_is_literal`."""

_ASSIGNED_MARKERS = (
    "password", "passwd", "passphrase", "secret", "token", "api_key", "api-key", "apikey", "access_key", "access-key",
    "accesskey",
)  # fmt: skip

_NAMED = re.compile(r"[A-Za-z0-9_.-]{0,40}\Z")

_HARMLESS_TOKENS = ("pad_", "bos_", "eos_", "unk_", "sep_", "cls_", "mask_", "special_", "max_", "per_")
"""What stands before `token` where it is one of a vocabulary."""

_PLACEHOLDER = re.compile(
    r"(?i)example|your|placeholder|redacted|change.?me|dummy|insert|x{4}|\*{3}|\.{3}|abcdefgh|12345678|^[$%{<\[]|^&\w|\$\{"
)

_PLACEHOLDER_PASSWORDS = frozenset({"password", "passwd", "pass", "pw", "pwd", "token", "secret", "hf_token", "key"})


_MARKERS = (*dict.fromkeys(marker for pattern in _EXACT for marker in pattern.markers), *_ASSIGNED_MARKERS)


_CUT = re.compile(_W + r"(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|pypi-|wandb_v1_|xox.-|AIza|eyJ)[\w.-]{4,200}…")
"""The beginning of a secret in a value that was shortened."""


def leaks_in(text: str) -> list[Leak]:
    """Return the secrets in a text, in their order; none overlaps another."""
    lowered = text.lower()
    present = [marker for marker in _MARKERS if marker in lowered]  # of nearly all texts, none: this is all they cost
    taken: list[Leak] = []
    for pattern in _EXACT if present else ():
        if not set(pattern.markers).isdisjoint(present):
            taken += _apart(_matches(pattern, text), taken)
    if not set(_ASSIGNED_MARKERS).isdisjoint(present):
        taken += _apart(_assigned(text, lowered), taken)
    kept: list[Leak] = []
    for leak in sorted(taken, key=lambda leak: (leak.start, -leak.stop)):
        if not kept or leak.start >= kept[-1].stop:
            kept.append(leak)
    return kept


def redacted(text: str) -> str:
    """Return a text without the secrets in it, for what is shown of a release."""
    for leak in reversed(leaks_in(text)):
        text = text[: leak.start] + MASK + text[leak.stop :]
    return _CUT.sub(MASK, text) if "…" in text else text


def holds_secret(line: str) -> bool:
    """Whether a line of a file must not be shown: a secret stands in it, plainly or in escapes."""
    return bool(leaks_in(line)) or ("\\" in line and bool(leaks_in(unescaped(line).text)))


def _matches(pattern: _Pattern, text: str) -> Iterator[Leak]:
    for match in pattern.regex.finditer(text):
        group = 1 if match.re.groups else 0
        if pattern.plain or not _is_placeholder(match[group]):
            yield Leak(pattern.kind, *match.span(group))


def _is_placeholder(value: str) -> bool:
    few = len(set(value)) < min(8, len(value) // 2 + 1)
    return few or value.lower() in _PLACEHOLDER_PASSWORDS or _PLACEHOLDER.search(value) is not None


def _assigned(text: str, lowered: str) -> Iterator[Leak]:
    for match in _assignments(text, lowered):
        before = _NAMED.search(text, max(0, match.start() - 40), match.start())
        if _is_literal(match, before[0].lower() if before else "") and not _is_placeholder(match[2]):
            yield Leak("a password or key", *match.span(2))


def _assignments(text: str, lowered: str) -> Iterator[re.Match[str]]:
    """Yield names with values: looked for word by word, which is ten times as fast as the pattern alone."""
    if len(lowered) != len(text):  # small letters of some alphabets take more room
        yield from _ASSIGNED.finditer(text)
        return
    for word in _ASSIGNED_MARKERS:
        place = lowered.find(word)
        while place >= 0:
            match = _ASSIGNED.match(text, place)
            if match:
                yield match
            place = lowered.find(word, match.end() if match else place + len(word))


def _is_literal(match: re.Match[str], before: str) -> bool:
    """Tell a value that somebody was given from names, words, digests and paths."""
    value, quoted = match[2], bool(match[1])
    digits = sum(c.isdigit() for c in value)
    upper, lower = (any(test(c) for c in value) for test in (str.isupper, str.islower))
    of_vocabulary = match[0][:5].lower() == "token" and before.endswith(_HARMLESS_TOKENS)
    if digits < 2 or not (upper or lower) or of_vocabulary or "/" in value or value.count(".") > 1:
        return False
    if re.fullmatch(r"[0-9a-fA-F]+", value):
        return match[0][:5].lower() != "token" and len(value) in (32, 48)
    if quoted:
        return match[3] == match[1] and ((upper and lower) or match[0][:5].lower() == "passw" or digits >= 4)
    return upper and lower and match[3] == "" and "," not in value


def _apart(found: Iterator[Leak], taken: list[Leak]) -> list[Leak]:
    """Leave out what overlaps a secret that is known already under a better name."""
    ordered = sorted(taken, key=lambda leak: leak.start)
    starts = [leak.start for leak in ordered]
    kept = []
    for leak in found:
        place = bisect_right(starts, leak.start)
        before, after = ordered[place - 1 : place] if place else [], ordered[place : place + 1]
        if not (before and before[0].stop > leak.start) and not (after and after[0].start < leak.stop):
            kept.append(leak)
    return kept


def text_of(raw: bytes) -> str | None:
    """Return the text of a file, odd bytes replaced; None when it is no text."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    return None if b"\0" in raw[:8192] else raw.decode("utf-8", "replace")


_ESCAPE = re.compile(r"(?:\\\\){2,}|(?:\\[ntrbf])+|\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(.))")


@dataclass(frozen=True)
class Unescaped:
    """A text with its escapes resolved; it has the same lines.

    Attributes:
        text: the text.
        places: where each resolved escape ends in it, in order.
        origins: where each ends in the original.
    """

    text: str
    places: tuple[int, ...]
    origins: tuple[int, ...]

    def origin(self, offset: int) -> int:
        """Return the offset in the original."""
        place = bisect_right(self.places, offset)
        return self.origins[place - 1] + offset - self.places[place - 1] if place else offset


def unescaped(text: str) -> Unescaped:
    """Resolve the escapes of JSON, YAML and TOML strings: a secret may be written in them."""
    parts: list[str] = []
    places, origins = [], []
    length = last = 0
    for match in _ESCAPE.finditer(text):
        between = text[last : match.start()]
        meant = _character(match) if match.lastindex else _run(match[0])
        parts += [between, meant]
        length += len(between) + len(meant)
        last = match.end()
        places.append(length)
        origins.append(last)
    return Unescaped("".join([*parts, text[last:]]), tuple(places), tuple(origins))


def _run(escapes: str) -> str:
    """Return what a run of like escapes means: backslashes, or blanks in the place of ends of lines."""
    return "\\" * (len(escapes) // 2) if escapes.startswith("\\\\") else " " * (len(escapes) // 2)


def _character(match: re.Match[str]) -> str:
    number = int(match[1] or match[2] or match[3] or "0", 16)
    if match[4]:
        return match[4]
    return chr(number) if 32 <= number < 0x110000 and number not in range(0xD800, 0xE000) else " "
