"""Cases of the rules in `rules/numbers.py`."""

from pathlib import Path

from tests.cases.tools import JUMP, TOPK, Case, claim, index, manifest, metric_of


def _exactly_half(root: Path) -> None:
    """A claim of two decimals whose measurement lies half a unit of the last one away."""
    manifest(claim("explained_variance", -4.75))(root)
    index(lambda i: metric_of(i, JUMP, "explained_variance").update(value=-4.755))(root)


CASES: dict[str, Case] = {
    "explained_variance_above_one": Case("SR402", manifest(claim("explained_variance", 1.2))),
    "wrong_explained_variance": Case("SR411", manifest(claim("explained_variance", 0.71))),
    "wrong_l0": Case("SR412", manifest(claim("l0", 9.0))),
    "wrong_dead_fraction": Case("SR414", manifest(claim("dead_fraction", 0.5))),
    "more_active_than_k": Case("SR413", index(lambda i: metric_of(i, TOPK, "l0").update(maximum=5.0))),
    "training_figure": Case("SR415", manifest(claim("nmse_uncentred_row", 0.3265, kind="training_running_mean"))),
    "per_element_for_per_row": Case("SR418", manifest(claim("mse_per_row", 5.241))),
    "said_to_be_per_element": Case("SR418", manifest(claim("mse_per_element", 5.241)), passes=True),
    "worse_than_the_mean": Case("SR402", manifest(claim("fvu", 5.75)), passes=True),
    "rounded_from_half": Case("SR411", _exactly_half, passes=True),
    "whole_l0": Case("SR412", manifest(claim("l0", 4.0)), passes=True),
    "as_many_active_as_k": Case(
        "SR413", index(lambda i: metric_of(i, TOPK, "l0").update(value=3.0, maximum=3.0)), passes=True
    ),
    "declared_tolerance": Case("SR414", manifest(claim("mse_per_row", 21.0, tolerance=0.05)), passes=True),
    "computed_on_other_rows": Case("SR415", manifest(claim("mse_per_row", 20.97, rows=4096))),
    "claim_on_an_evaluation": Case("SR415", manifest(claim("mse_per_element", 5.24)), passes=True),
}
"""Name of the folder → what is planted, and the one code that must be found."""
