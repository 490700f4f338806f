"""saereg: releases of sparse autoencoders, transcoders and crosscoders, verified.

    import saereg

    release = saereg.open("demo-out/release")               # claims and evidence; no torch, no weights
    best = release.find(kind="sae", l0__lt=64).best("explained_variance")
    dictionary = best.load()                                 # compared with index.json first
    x_hat = dictionary(x)                                    # (batch, d_in), normalization and skip included
    f = dictionary.encode(x)                                 # (batch, d_sae)

    saereg.load("demo-out/release:layer_2/topk_32")          # the same, by reference
    saereg.find(model="pythia-160m", l0__lt=300).best("ev")  # over the catalogue: saereg registry add
    saereg.sql("SELECT reference, l0 FROM artifacts WHERE ev > 0.9")   # the catalogue, read-only
    report = saereg.validate("demo-out/release", level="weights")
    saereg.publish("demo-out/release", "dir:published")      # only ever from a report without errors
    saereg.verify("hf://org/name@v1.0.0")                    # what is out there against its index, without weights

Rooms: `schemas` is what is on disk, `registry` what it means, `publishers` who ships it, `trainers` who makes it, `cli`
the command line. Importing saereg imports none of them.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from saereg.api import find, load, open, publish, sql, validate, verify

__all__ = ["__version__", "find", "load", "open", "publish", "sql", "validate", "verify"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the functions of the public interface, imported on first use
    if name in __all__:
        from saereg import api

        return getattr(api, name)
    raise AttributeError(f"module 'saereg' has no attribute {name!r}")
