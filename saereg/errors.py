"""The errors that saereg raises on purpose, and the exit codes of its command line. Imports nothing of saereg.

SaeregError                  everything below; the command line prints it as one line
├── UsageError               the command or a configuration file cannot be acted on         exit 2
│   ├── DocumentError        a JSON or YAML document does not parse or fit its schema       exit 2
│   ├── UnknownNameError     a name is not in a table (also a KeyError)                     exit 2
│   ├── MissingExtraError    the command needs an extra that is not installed               exit 2
│   ├── DataUnavailableError what an evaluation is computed from is not on this machine     exit 2
│   ├── SignatureError       a signature cannot be read, or is not of this key              exit 1
│   └── InvalidReleaseError  publishing was refused: the report has errors                  exit 1
├── FormatError              a folder is in no known layout, or in several                  exit 2
├── WeightsError             a tensor is missing, extra, or of the wrong shape or dtype     exit 2
├── PublishError             the target refused, or disagrees after the upload              exit 4
│   └── ConflictError        somebody else changed the target meanwhile                     exit 4
├── LostProcessError         another process of a training run ended                        exit 4
└── NothingToValidateError   the target holds no release                                    exit 5

Problems *of a release* are no exceptions but findings (`saereg.schemas.report.Finding`): exceptions say only
that a command cannot go on.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line answers with; part of the public interface."""

    CLEAN = 0
    FINDINGS = 1
    USAGE = 2
    INTERNAL = 3
    NETWORK = 4
    NOTHING_TO_VALIDATE = 5


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return matches[0] if matches else None


class SaeregError(Exception):
    """Base of every error that saereg raises on purpose."""

    exit_code = ExitCode.USAGE

    def __reduce__(self) -> "tuple[object, ...]":
        """Keep the sentence and the attributes on the way from another process; `__init__` takes other words."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[SaeregError], arguments: tuple[object, ...], attributes: dict[str, object]) -> SaeregError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class UsageError(SaeregError):
    """The command, an argument or a configuration file cannot be acted on."""


class DocumentError(UsageError):
    """A document does not parse or does not fit its schema."""

    def __init__(self, path: object, pointer: str, problem: str) -> None:
        self.path, self.pointer, self.problem = str(path), pointer, problem
        super().__init__(f"{path}#{pointer}: {problem}" if pointer else f"{path}: {problem}")


class UnknownNameError(UsageError, KeyError):
    """A name is not in a table."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        guess = did_you_mean(name, self.known)
        hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(self.known)}"
        self.text = f"unknown {kind} {name!r}; {hint}"
        super().__init__(self.text)

    def __str__(self) -> str:
        """Return the sentence itself: KeyError would print its repr."""
        return self.text


class MissingExtraError(UsageError):
    """A command needs an extra that is not installed."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        self.extra, self.module = extra, module
        super().__init__(f"{what} needs {module}, which is not installed: pip install 'saereg[{extra}]'")


class FormatError(SaeregError):
    """A folder is in no known layout, or in several."""

    def __init__(self, path: object, problem: str, candidates: Iterable[str] = ()) -> None:
        self.path, self.candidates = str(path), tuple(candidates)
        listed = f" (candidates: {', '.join(self.candidates)})" if self.candidates else ""
        super().__init__(f"{path}: {problem}{listed}")


class WeightsError(SaeregError):
    """A tensor or its file is not what the configuration says."""

    def __init__(self, path: object, problem: str, tensor: str | None = None) -> None:
        self.path, self.problem, self.tensor = str(path), problem, tensor
        super().__init__(f"{path}: {tensor}: {problem}" if tensor else f"{path}: {problem}")


class DataUnavailableError(UsageError):
    """What the rows of an evaluation are computed from, a model or its checkpoints, is not on this machine.

    Attributes:
        why: what is missing, and which option gives it, without the folders of this machine: an index is published.
    """

    def __init__(self, why: str, here: object = None) -> None:
        self.why = why
        super().__init__(why if here is None else f"{here}: {why}")


class SignatureError(UsageError):
    """A signature cannot be read, or was not made with the private key of the public key that was given."""

    exit_code = ExitCode.FINDINGS


class InvalidReleaseError(UsageError):
    """Publishing was refused, because the validation report has errors or is not deep enough."""

    exit_code = ExitCode.FINDINGS


class PublishError(SaeregError):
    """The target refused, or does not hold afterwards what was sent."""

    exit_code = ExitCode.NETWORK


class ConflictError(PublishError):
    """The target is no longer what the plan was made for: somebody else changed it.

    Attributes:
        changes: what they changed, one line per file.
    """

    def __init__(self, problem: str, changes: Iterable[str] = ()) -> None:
        self.changes = tuple(changes)
        super().__init__(problem)


class WithdrawnWarning(UserWarning):
    """What is used was yanked by its author: it is wrong, and the warning says why and what to use instead."""


class FigureWarning(UserWarning):
    """A figure could not be drawn of a release, and was left out; the warning names it and says why."""


class DivergedError(SaeregError):
    """The loss of a training run is no number any more, or leapt."""

    exit_code = ExitCode.FINDINGS


class InterruptedRunError(SaeregError):
    """A training run was stopped by a signal, after it had saved where it was.

    Attributes:
        signal: its number.
    """

    def __init__(self, problem: str, signal: int) -> None:
        self.signal = signal
        super().__init__(problem)


class LostProcessError(SaeregError):
    """Another process of the same training run ended, or cannot be reached."""

    exit_code = ExitCode.NETWORK


class NothingToValidateError(SaeregError):
    """The target holds no release: an empty or absent folder must never pass."""

    exit_code = ExitCode.NOTHING_TO_VALIDATE
