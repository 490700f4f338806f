"""`saereg train sae`."""

from pathlib import Path
from typing import Any, get_args

import click

from saereg.cli.building import build_option, built_after_training
from saereg.cli.configuration import overlaid, read_yaml
from saereg.cli.progress import training_bar
from saereg.cli.training import (
    RUN_OPTIONS,
    Options,
    facts_of,
    release_info,
    release_options,
    require_id,
    settings_options,
)
from saereg.registry.release import CHECKPOINTS
from saereg.schemas.training import TrainConfig, TrainedArchitecture, TrainedNormalization

OPTIONS: Options = {
    "collection": ("collection", click.option("--collection", help="Folder that `train collect` wrote.")),
    "site": ("site", click.option("--site", help="Site in the collection.")),
    "site_out": ("site_out", click.option("--site-out", help="Site that a transcoder predicts.")),
    "architecture": (
        "sae.architecture",
        click.option("--architecture", type=click.Choice(get_args(TrainedArchitecture))),
    ),
    "d_sae": ("sae.d_sae", click.option("--d-sae", type=int, help="Number of latents.")),
    "k": ("sae.k", click.option("--k", type=float, help="Active latents per row (topk, batchtopk).")),
    "l1": ("sae.l1_coefficient", click.option("--l1", type=float, help="L1 coefficient (standard, gated).")),
    "l0": ("sae.l0_coefficient", click.option("--l0", type=float, help="L0 coefficient (jumprelu).")),
    "target_l0": (
        "sae.target_l0",
        click.option("--target-l0", type=float, help="L0 that the coefficient is steered to."),
    ),
    "decoder_norm": (
        "sae.decoder_norm",
        click.option("--decoder-norm", type=click.Choice(["free", "unit"]), help="Whether rows of W_dec keep norm 1."),
    ),
    "tied": ("sae.tied", click.option("--tied/--untied", default=None, help="Whether W_enc is W_decᵀ (topk).")),
    "normalize": (
        "sae.normalize_activations",
        click.option("--normalize", type=click.Choice(get_args(TrainedNormalization))),
    ),
    "step": (
        "optimization.step",
        click.option("--step", type=click.Choice(["auto", "saelens"]), help="Whose training step. [default: auto]"),
    ),
    "compile": (
        "optimization.compile",
        click.option("--compile/--no-compile", default=None, help="Use torch.compile, where there is a compiler."),
    ),
    **RUN_OPTIONS,
}
"""Parameter → place in the configuration file, and the flag."""


@click.command(short_help="Train an autoencoder or transcoder with SAELens.")
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@settings_options(OPTIONS)
@release_options
@build_option
def sae(
    config: Path | None,
    release: Path,
    checkpoints: Path | None,
    builds: bool,
    name: str | None,
    title: str | None,
    licence: str | None,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Train a sparse autoencoder or transcoder with SAELens and add it to a release folder.

    Settings come from a YAML file (see `saereg schema train`), from flags, or both; flags win. The same settings give
    the same bytes on one machine. Ctrl-C and SIGTERM save; the same command goes on from there, to the same bytes.
    """
    from saereg.schemas.document import canonical
    from saereg.trainers.saelens.train import train

    given = {OPTIONS[flag][0]: value for flag, value in flags.items() if value != ()}
    settings = overlaid(read_yaml(config) if config else {}, given)
    require_id(settings, config)
    parsed = TrainConfig.from_text(canonical(settings), config or "flags")
    info = release_info(release, name, title, licence)
    with training_bar(f"train {parsed.artifact.id}") as progress:
        done = train(parsed, release, checkpoints or release.absolute().parent / CHECKPOINTS, progress, info=info)
    facts = [*facts_of(done.artifact), *progress.facts()]
    click.echo(f"{done.artifact.id}: {', '.join(facts)}, weights sha256 {done.weights_sha256[:16]}…")
    built_after_training(release, checkpoints, builds=builds)
