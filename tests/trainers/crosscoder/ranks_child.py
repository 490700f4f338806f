"""One of several processes, as torchrun starts them: does what the file in its first argument says, and notes results.

Not a test itself: `test_sharding.py` starts it once for many facts.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from saereg.cli.ranks import one_voice
from saereg.errors import InterruptedRunError
from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.resharding import state_folder
from saereg.trainers.crosscoder.train import train_crosscoder
from saereg.trainers.runs.finished import STATES

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")


def stopping(job: dict, size: int, group):
    """Return a progress callback that sends a signal to one of the processes in a step, where the job says so."""

    def progress(seen) -> None:
        # when it is told of a step, that one is over
        if seen.tokens == (job.get("stop", 0) - 1) * size and group.rank == job.get("rank", 0) and not seen.said:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def exchanges(group) -> dict:
    """Return what the collectives give for parts of uneven length."""
    rank = group.rank
    part = torch.arange(6.0).view(2, 3)[:, : 1 + 2 * rank] + 10 * rank
    few = torch.tensor([[1.0], [-torch.inf]]) if rank else torch.tensor([[5.0, 2.0], [-torch.inf, 3.0]])
    turned = torch.arange(6).view(2, 3).t() * (1 + rank)
    whole = group.joined(part, -1)
    return {
        "joined": whole.tolist(),
        "joined rows": group.joined(torch.full((rank, 2), 7.0), 0).tolist(),
        "top": group.top_values(few, 2).tolist(),
        "top of fewer": group.top_values(torch.arange(float(rank)), 5).tolist(),
        "sum of a view": group.sum_(turned).tolist(),
        "sum of a scalar": group.sum_(torch.tensor(2.5, dtype=torch.float64)).tolist(),
        "largest": group.largest(rank, -rank),
    }


def poisoned(config, group) -> bool:
    """Return whether a weight that is no number in the second process alone makes the loss no number here."""
    model = Crosscoder(config.crosscoder, (2, 16), 0, group=group)
    if group.rank == 1:
        with torch.no_grad():
            model.weights["W_enc"][0, 0, 0] = torch.nan
    member = CrosscoderMember(config, model, ("a", "b"))
    loss = member.step({"a": torch.ones(4, 16), "b": torch.ones(4, 16)}).loss
    return loss != loss


def main() -> None:
    plan, root = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    torch.set_num_threads(1)
    noted: dict = {"stopped": {}}
    with one_voice() as group:
        for job in plan["jobs"]:
            config = CrosscoderTrainConfig.from_text(json.dumps(job["config"]), "test")
            progress = stopping(job, config.optimization.batch_size, group)
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # one that was caught is ignored from then on
            release, checkpoints = root / job["to"], root / f"{job['to']}-checkpoints"
            try:
                train_crosscoder(config, release, checkpoints, progress, info=INFO, group=group)
            except InterruptedRunError:
                own = state_folder(checkpoints / config.artifact.id / STATES, group.rank, group.size)
                noted["stopped"][config.artifact.id] = [path.name for path in own.iterdir()]
        noted["exchanges"] = exchanges(group)
        noted["poisoned"] = poisoned(CrosscoderTrainConfig.from_text(json.dumps(plan["poisoned"]), "test"), group)
        sys.stdout.write(f"printed by {group.rank}\n")
        (root / f"noted-{group.rank}.json").write_text(json.dumps(noted))


if __name__ == "__main__":
    main()
