"""What the name of a tensor says of its part, in files whose layout nobody knows."""

import re

ENCODER = frozenset({"enc", "encoder", "encode", "e"})
DECODER = frozenset({"dec", "decoder", "decode", "d"})
"""Words in a name that tell the sides apart."""

STATISTICS = frozenset(
    [
        "freq",
        "freqs",
        "frequency",
        "nonzero",
        "fired",
        "since",
        "dead",
        "count",
        "counts",
        "counter",
        "age",
        "usage",
        "histogram",
        "square",
    ]
)
"""Words in the names of training statistics."""

SCALES = frozenset(
    ["scale", "scaling", "factor", "norm", "mean", "std", "var", "mu", "sigma", "rescale", "normalizer", "whitening"]
)
"""Words in the names of what changes the function in a way that only its author knows."""

GATED = ("b_gate", "b_mag", "r_mag")
OF_LATENTS = ("b_enc", "threshold", "log_threshold", *GATED)
OF_OUTPUT = ("b_dec", "pre_bias")
ROLES = (*OF_LATENTS, *OF_OUTPUT)
"""Parts that vectors play; those of the second line have F values, or one."""


def words(name: str) -> frozenset[str]:
    """Return the words of a name, e.g. of `log_threshold` or `encoder.bias`."""
    return frozenset(re.split(r"[^a-z0-9]+", name.lower()))


def side(name: str) -> str | None:
    """Return `encoder` or `decoder` where a name says one of them."""
    found = words(name)
    sides = [s for s, known in (("encoder", ENCODER), ("decoder", DECODER)) if found & known]
    return sides[0] if len(sides) == 1 else None


def role(name: str) -> str | None:
    """Return the part that a vector's name says it plays; `statistic` for training statistics, `scale` for scales."""
    found = words(name)
    bias = bool(found & {"b", "bias"})
    table = (
        ("statistic", bool(found & STATISTICS)),
        ("log_threshold", "log" in found and bool(found & {"threshold", "theta"})),
        ("threshold", bool(found & {"threshold", "thresholds", "theta"})),
        ("b_gate", "gate" in found and bias),
        ("r_mag", {"r", "mag"} <= found),
        ("b_mag", "mag" in found and bias),
        ("scale", bool(found & SCALES)),
        ("pre_bias", "pre" in found and bias),
        ("b_enc", bias and (side(name) == "encoder" or bool(found & {"latent", "hidden"}))),
        ("b_dec", name.lower() == "bias" or (bias and (side(name) == "decoder" or "output" in found))),
    )
    return next((part for part, fits in table if fits), None)
