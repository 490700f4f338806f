"""What the caller says where files do not: `saereg convert … --set k=64`, `saereg.load(…, given={"k": 64})`."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from saereg.errors import FormatError, UsageError, did_you_mean
from saereg.schemas.semantics import Assumption

Value = str | int | float | bool
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
MISSPELT = 0.87
"""Likeness from which on an unknown key is taken for a misspelt one."""

BECAUSE = "given by the caller"

SHORT = 200
"""Most characters of a value in a note."""


@dataclass
class Given:
    """Values by name, each asked for once.

    Attributes:
        values: name → value, as typed or as a number.
        asked: every name that a reader asked for, for the error about others.
        assumptions: a record of each value that was used.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    assumptions: list[Assumption] = field(default_factory=list)

    def text(self, name: str, choices: Iterable[str] = ()) -> str | None:
        """Return a value as a word, or None when it was not given.

        Raises:
            UsageError: when it is none of the choices.
        """
        raw, known = self._take(name), tuple(choices)
        if raw is not None and known and str(raw) not in known:
            raise UsageError(f"{name}={raw}: choose from {', '.join(known)}")
        return None if raw is None else str(raw)

    def number(self, name: str) -> float | None:
        """Return a value as a positive finite number, or None when it was not given.

        Raises:
            UsageError: when it is none.
        """
        raw = self._take(name)
        if raw is None:
            return None
        try:
            value = 0.0 if isinstance(raw, bool) else float(raw)
        except (ValueError, OverflowError):
            value = 0.0
        if not 0 < value < float("inf"):
            raise UsageError(f"{name}={raw}: expected a positive number")
        return value

    def whole(self, name: str) -> int | None:
        """Return a value as a positive whole number, or None when it was not given.

        Raises:
            UsageError: when it is none.
        """
        value = self.number(name)
        if value is not None and value != int(value):
            raise UsageError(f"{name}={value:g}: expected a whole number")
        return None if value is None else int(value)

    def flag(self, name: str) -> bool | None:
        """Return a value as true or false, or None when it was not given.

        Raises:
            UsageError: when it is neither.
        """
        raw = self._take(name)
        if raw is None or isinstance(raw, bool):
            return raw
        if str(raw).lower() in TRUE:
            return True
        if str(raw).lower() in FALSE:
            return False
        raise UsageError(f"{name}={raw}: expected true or false")

    def check_used(self) -> None:
        """Refuse values that no reader asked for.

        Raises:
            UsageError: with the closest name that was asked for.
        """
        for name in self.values:
            if name not in self.asked:
                guess = did_you_mean(name, self.asked)
                known = f"it asks for {', '.join(sorted(self.asked))}" if self.asked else "it asks for nothing"
                raise UsageError(
                    f"this layout does not ask for {name!r}; {f'did you mean {guess!r}?' if guess else known}"
                )

    def _take(self, name: str) -> Value | None:
        self.asked.add(name)
        if name not in self.values:
            return None
        value = self.values[name]
        if not any(known.field == name for known in self.assumptions):
            self.assumptions.append(Assumption(field=name, value=str(value), because=BECAUSE))
        return value


def unknown_keys(cfg: Mapping[str, object], known: Collection[str], document: str) -> list[Assumption]:
    """Return a note for each key of a document that a layout is not known to have, so that none vanishes unread.

    Args:
        cfg: the document.
        known: the keys that the publisher's own configuration has, those of training included.
        document: its name, for the note.

    Raises:
        FormatError: when one is all but the name of a known key that the document has not: a misspelt switch.
    """
    absent = [name for name in known if name not in cfg]
    for key in cfg.keys() - frozenset(known):
        close = difflib.get_close_matches(str(key), absent, n=1, cutoff=MISSPELT)
        if close:
            raise FormatError(document, f"unknown key {key!r}, did you mean {close[0]!r}?")
    because = f"a key of {document} that this layout is not known to have; ignored"
    others = sorted(cfg.keys() - frozenset(known), key=str)  # a key in YAML may be a number
    return [Assumption(field=str(key), value=str(cfg[key])[:SHORT], because=because) for key in others]


def missing(where: object, name: str, why: str, example: str) -> FormatError:
    """Return the error for something that the files do not say and that must not be guessed."""
    return FormatError(where, f"{why}; say it: --set {name}={example}")
