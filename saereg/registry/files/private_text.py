"""Private matters in a text: paths and prompts of a machine, e-mail addresses, runs on Weights & Biases."""

import re
from dataclasses import dataclass

PROSE = (".md", ".bib", ".cff", ".rst", ".html")
"""Ends of files that are written for readers: an address or the link of a run in them is meant to be there."""


@dataclass(frozen=True)
class Private:
    """One kind of private matter in a text.

    Attributes:
        kind: what it is, with its article.
        plural: several of them.
        count: how many there are.
        start: where the first begins.
    """

    kind: str
    plural: str
    count: int
    start: int


@dataclass(frozen=True)
class _Kind:
    """How one kind is written; `in_prose` says whether it counts in a text for readers."""

    kind: str
    plural: str
    markers: tuple[str, ...]
    regex: re.Pattern[str]
    in_prose: bool


_ANYBODY = (
    r"(?!(?:user(?:name)?|you(?:r[\w-]*)?|me|name|someone|somebody|alice|bob|jovyan|runner|ubuntu|ec2-user|sagemaker-user"
    r"|path|dir|folder|shared|data|public|[A-Z_]{2,}|x{2,}|\.{2,})(?![\w-]))"
)
"""Names that are those of nobody."""

_MOUNTS = r"(?:/(?:mnt|data|storage|nfs|gpfs|lustre|export|net|afs|fsx|cluster|vol\w{0,8})){0,2}"

_KINDS = (
    _Kind(
        "the path of a home folder",
        "paths of home folders",
        ("/home/", "/users/", "\\users\\", "/root/", "/scratch/", "/gpfs/", "/lustre/", "/nfs/"),
        re.compile(
            rf"(?:(?<![\w.~/-])|(?<=file://)){_MOUNTS}/(?:home|Users|scratch|gpfs|lustre|nfs)/{_ANYBODY}[A-Za-z0-9._-]{{2,64}}"
            rf"|(?<![A-Za-z0-9])[A-Za-z]:\\{{1,2}}Users\\{{1,2}}{_ANYBODY}(?!Public)[A-Za-z0-9._-]{{2,64}}"
            r"|(?<![\w.~/-])/root/[\w.]"
        ),
        in_prose=True,
    ),
    _Kind(
        "the prompt of a machine",
        "prompts of machines",
        ("@",),
        re.compile(
            r"(?<![\w./@-])(?!git@|user@|you@|name@)[A-Za-z_][A-Za-z0-9_-]{1,31}@[A-Za-z0-9][A-Za-z0-9-]{1,62}"
            r"(?:\.[A-Za-z0-9-]{1,62}){0,5}:[~/]"
        ),
        in_prose=True,
    ),
    _Kind(
        "an e-mail address",
        "e-mail addresses",
        ("@",),
        re.compile(
            r"(?<![\w.+/@%-])(?!git@|noreply@|no-reply@)[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@(?!example\.|(?:\w{1,20}\.)?noreply)"
            r"[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,62}){0,4}\.(?!py\b|json\b|safetensors\b|txt\b|md\b)"
            r"[A-Za-z]{2,18}(?![\w:-])"
        ),
        in_prose=False,
    ),
    _Kind(
        "a Weights & Biases run",
        "names of Weights & Biases runs",
        ("wandb",),
        re.compile(
            r"[\"']?wandb_(?:entity|id|run_id)[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?!null\b|None\b|str\b|Optional\b|~|[\"'\s,}])\S"
            r"|(?<![\w.])(?:https?://)?(?:api\.)?wandb\.ai/(?!site\b|authorize|docs|settings|home\b)[\w-]{1,64}/[\w.-]{1,128}"
        ),
        in_prose=False,
    ),
)


_MARKERS = tuple(dict.fromkeys(marker for kind in _KINDS for marker in kind.markers))


def private_in(text: str, path: str) -> list[Private]:
    """Return the kinds of private matters in the text of a file, each once."""
    lowered = text.lower()
    present = [marker for marker in _MARKERS if marker in lowered]
    prose, found = path.lower().endswith(PROSE), []
    for kind in _KINDS if present else ():
        if (prose and not kind.in_prose) or set(kind.markers).isdisjoint(present):
            continue
        starts = [match.start() for match in kind.regex.finditer(text)]
        if starts:
            found.append(Private(kind.kind, kind.plural, len(starts), starts[0]))
    return found
