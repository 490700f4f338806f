"""Cases of the rules that compare artifacts with each other, with their names, and with the author's own rule."""

import shutil
from collections.abc import Callable
from pathlib import Path

from saereg.registry.build import build
from tests.cases.tools import JUMP, TOPK, Case, artifact_of, edit, index, manifest, metric_of, tensors

CROSS = "W_U/cross-snapshot-2"

AGAIN = "layer_1/jumprelu_seed1"

Plant = Callable[[Path], object]


def every(*plants: Plant) -> Plant:
    """Return a defect of several steps."""

    def plant(root: Path) -> None:
        for step in plants:
            step(root)

    return plant


def healthy(artifact: str, explained_variance: float, **metrics: float) -> Plant:
    """Return a change after which an artifact is measured so, and is no declared failure."""
    figures = {"explained_variance": explained_variance, "fvu": 1 - explained_variance} | metrics

    def measure(document: dict) -> None:
        for metric, value in figures.items():
            metric_of(document, artifact, metric).update(value=value)

    return every(manifest(lambda m: artifact_of(m, artifact).pop("expected_failure")), index(measure))


def another_seed(root: Path) -> None:
    """Add an artifact of another seed with the weights of the first."""
    shutil.copytree(root / JUMP, root / AGAIN)
    entry = {"id": AGAIN, "path": AGAIN, "seed": 1}
    edit(root / "manifest.json", lambda m: m["artifacts"].insert(2, artifact_of(m, JUMP) | entry))
    build(root)


def _nudge(weights: dict) -> None:
    weights["b_dec"][0] += 1e-3


other_weights = tensors(AGAIN, _nudge, golden=True)


def rename(artifact: str, name: str, path: str) -> Plant:
    """Return a change of an artifact's id and folder."""

    def plant(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / artifact).rename(root / path)
        edit(root / "manifest.json", lambda m: artifact_of(m, artifact).update(id=name, path=path))
        build(root)

    return plant


def ids(*names: str) -> Plant:
    """Return a change of the ids of the first artifacts, in both documents."""

    def change(document: dict) -> None:
        for entry, name in zip(document["artifacts"], names, strict=False):
            entry["id"] = name

    return every(manifest(change), index(change))


def canonical(rule: str, *artifacts: str) -> Plant:
    """Return a rule, and flags for those that it is said to choose."""

    def change(document: dict) -> None:
        document["canonical"] = {"rule": rule}
        for name in artifacts:
            artifact_of(document, name)["canonical"] = True

    return manifest(change)


def base_model(**values: object) -> Plant:
    """Return other facts of the base model."""
    return manifest(lambda m: m["base_models"]["tiny"].update(values))


def _no_claims(document: dict) -> None:
    artifact_of(document, TOPK)["claims"] = []


two_good = every(healthy(TOPK, 0.8), healthy(JUMP, 0.7))

CASES: dict[str, Case] = {
    "seeds_with_the_same_weights": Case("SR007", another_seed),
    "seeds_with_weights_of_their_own": Case("SR007", every(another_seed, other_weights), passes=True),
    "schema_not_named": Case("SR105", manifest(lambda m: m.pop("$schema")), "layout"),
    "schema_of_the_index": Case(
        "SR105", manifest(lambda m: m.update({"$schema": "https://example.org/index-1.schema.json"})), "layout"
    ),
    "schema_beside_the_manifest": Case(
        "SR105", manifest(lambda m: m.update({"$schema": "manifest-1.schema.json"})), passes=True
    ),
    "id_and_path_of_other_runs": Case("SR111", rename(JUMP, "layer_1/jumprelu_k32", "layer_1/jumprelu_k64")),
    "id_and_path_only_differ": Case("SR111", rename(JUMP, "layer_1/jumprelu_k32", "blocks.1/k32"), passes=True),
    "seed_of_another_run": Case("SR112", rename(JUMP, "layer_1/jumprelu_seed3", "layer_1/jumprelu_seed3")),
    "layer_of_another_site": Case("SR112", rename(JUMP, "layer_2/jumprelu", "jumprelu")),
    "names_that_say_what_the_fields_say": Case(
        "SR112", rename(JUMP, "layer01/lam1p00_seed0", "blocks.1.hook_resid_post/jumprelu"), passes=True
    ),
    "ids_sorted_as_text": Case("SR114", ids("run_1", "run_10", "run_2")),
    "ids_sorted_by_number": Case("SR114", ids("run_1", "run_2", "run_10"), passes=True),
    "context_beyond_the_model": Case("SR322", base_model(context_size=8)),
    "context_of_the_model": Case("SR322", base_model(context_size=16), passes=True),
    "step_between_checkpoints": Case("SR331", base_model(step=1024, schedule="pythia-154")),
    "sources_between_checkpoints": Case("SR331", base_model(step=0, schedule=[0, 512, 2000])),
    "steps_of_checkpoints": Case("SR331", base_model(step=512, schedule="pythia-154"), passes=True),
    "seeds_with_the_same_figures": Case(
        "SR403",
        every(another_seed, other_weights, *(healthy(name, 0.8125, mse_per_row=0.9) for name in (JUMP, AGAIN))),
    ),
    "seeds_with_figures_that_nearly_agree": Case(
        "SR403",
        every(another_seed, other_weights, healthy(JUMP, 0.8125), healthy(AGAIN, 0.8125000001)),
        passes=True,
    ),
    "claimed_above_k": Case(
        "SR413",
        manifest(lambda m: artifact_of(m, TOPK)["claims"][0].update(value=4.0)),
    ),
    "fewer_active_than_k": Case("SR417", every(manifest(_no_claims), healthy(TOPK, 0.8, l0=1.5))),
    "nearly_k_active": Case("SR417", every(manifest(_no_claims), healthy(TOPK, 0.8, l0=2.75)), passes=True),
    "flag_on_the_second_best": Case("SR431", every(two_good, canonical("highest ev per layer", JUMP))),
    "best_one_not_flagged": Case(
        "SR431",
        every(two_good, canonical("highest ev per layer, architecture", TOPK)),
    ),
    "flag_on_the_best": Case("SR431", every(two_good, canonical("highest ev per layer", TOPK)), passes=True),
    "failure_not_flagged": Case("SR432", manifest(lambda m: artifact_of(m, JUMP).pop("expected_failure"))),
    "poor_and_no_failure": Case("SR432", healthy(JUMP, 0.05), passes=True),
    "rule_in_words": Case("SR433", every(two_good, canonical("the most interpretable one", TOPK))),
    "flag_without_a_rule": Case("SR433", manifest(lambda m: artifact_of(m, TOPK).update(canonical=True))),
    "rule_on_an_unknown_metric": Case("SR433", every(two_good, canonical("lowest ce_recovered", TOPK))),
    "rule_as_people_write_it": Case(
        "SR433", every(two_good, canonical("L0 closest to 3 per layer.", TOPK)), passes=True
    ),
    "failure_that_did_not_fail": Case(
        "SR434", index(lambda i: metric_of(i, JUMP, "explained_variance").update(value=0.9))
    ),
    "failure_that_half_failed": Case(
        "SR434", index(lambda i: metric_of(i, JUMP, "explained_variance").update(value=0.3)), passes=True
    ),
}
"""Name of the folder → what is planted, and the one code that must be found, or nothing."""
