"""A small dictionary, rows of which some are deadly, and a recomputation of them; also as a program of its own."""

import sys
from pathlib import Path

from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.recompute.chosen import Chosen, Measuring
from saereg.registry.recompute.journal import open_journal
from saereg.registry.recompute.run import Order, Recomputation
from saereg.registry.recompute.tasks import Place
from saereg.registry.work.opening import open_executor
from saereg.schemas.artifact_config import parse_config
from tests.registry.work.rows import DeadlyRows
from tests.releases import D_IN, config_text, random_weights

ROWS = 3 * 16_384 + 1000
"""Four chunks."""

ORDER = Order(batch_rows=(512, 128), densities=True)


def dictionary(folder: Path, seed: int = 0) -> Path:
    """Write a TopK dictionary and return its folder."""
    cfg = parse_config(config_text("layer_1/topk"))
    write_checkpoint(Checkpoint(cfg, random_weights(cfg, seed)), folder, "saelens")
    return folder


def measuring(folder: Path, rows: DeadlyRows) -> Measuring:
    """Return what is to be measured."""
    place = Place(folder)
    return Measuring(Chosen(str(folder)), place.read().cfg, place, "data", rows)


def recompute(root: Path, executor: str | None, deadly: int | None = None, *, count: int = ROWS) -> Recomputation:
    """Measure the dictionaries `a` and `b` of a folder, and journal it there; the rows of `b` may be deadly."""
    planned = []
    for name in ("a", "b"):
        (root / f"{name}-rows").mkdir(exist_ok=True)
        rows = DeadlyRows(count, D_IN, root / f"{name}-rows", deadly if name == "b" else None)
        planned.append(measuring(root / name, rows))
    with open_journal(root / "out.jsonl") as journal:
        run = Recomputation(ORDER, journal)
        with open_executor(executor) as workers:
            list(run.run(planned, workers))
        journal.close([run.found[at] for at in sorted(run.found)], complete=not run.failures)
    return run


if __name__ == "__main__":
    recompute(Path(sys.argv[1]), None, int(sys.argv[2]))
