"""What a validation is asked for, beyond its level."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What a run was asked for, beyond its level.

    Attributes:
        checkpoints: folder of source checkpoints for the round trip, or None when they are not at hand.
        models: key of a base model → folder or repository of it, for evaluations that are computed from one.
        device: torch device on which metrics are recomputed.
        run_snippets: whether the Python blocks of the card are run. Never by default, nor by a configuration file:
            they are the author's code.
        hash_all: whether large files are hashed at level header too.
        jobs: threads that read and hash; each holds some 30 MB at most.
        tolerances: metric → largest difference that agrees, from the configuration.
        layouts: layouts in which every artifact must be expressible, from the profile.
    """

    checkpoints: Path | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    run_snippets: bool = False
    hash_all: bool = False
    jobs: int = 1
    tolerances: Mapping[str, float] = field(default_factory=dict)
    layouts: tuple[str, ...] = ()
