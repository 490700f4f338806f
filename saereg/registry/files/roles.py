"""What the files of a release are for, by their names."""

from pathlib import PurePosixPath

from saereg.registry.files.names import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    CONVERSION_FILE,
    FEATURES_FILE,
    FIGURES,
    GOLDEN_FILE,
    LATENTS_FILE,
    LOG_FILE,
    SPARSITY_FILE,
    WEIGHTS_FILES,
)
from saereg.schemas.index import Role

_BY_NAME: dict[str, Role] = {
    CONFIG_FILE: "config",
    GOLDEN_FILE: "golden",
    SPARSITY_FILE: "sparsity",
    LOG_FILE: "log",
    CONVERSION_FILE: "conversion",
    ANALYSIS_FILE: "analysis",
    LATENTS_FILE: "analysis",
    FEATURES_FILE: "features",
    **dict.fromkeys(WEIGHTS_FILES.values(), "weights"),
}


def role_of(path: str) -> Role:
    """Return what a file is for, by its path in the release."""
    name = PurePosixPath(path).name
    if name in _BY_NAME:
        return _BY_NAME[name]
    if path.startswith("evaluation/"):
        return "evaluation"
    if path.startswith(f"{FIGURES}/"):
        return "figure"
    return "card" if name.endswith(".md") else "other"
