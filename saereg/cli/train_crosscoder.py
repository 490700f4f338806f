"""`saereg train crosscoder`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from saereg.cli.building import build_option, built_after_training
from saereg.cli.configuration import overlaid, read_yaml
from saereg.cli.progress import training_bar
from saereg.cli.ranks import hush, one_voice
from saereg.cli.training import (
    RUN_OPTIONS,
    Options,
    facts_of,
    release_info,
    release_options,
    require_id,
    settings_options,
)
from saereg.registry.release import CHECKPOINTS, MANIFEST_FILE
from saereg.schemas.evaluation import Preprocess
from saereg.schemas.training_crosscoder import CrosscoderArchitecture, CrosscoderTrainConfig

if TYPE_CHECKING:
    from saereg.schemas.manifest import CrosscoderArtifact

OPTIONS: Options = {
    "axis": (
        "sources.axis",
        click.option("--axis", type=click.Choice(["layer", "model", "snapshot"]), help="What the sources are."),
    ),
    "collections": (
        "sources.collections",
        click.option("--collection", "collections", multiple=True, help="Folder that `train collect` wrote."),
    ),
    "sites": ("sources.sites", click.option("--site", "sites", multiple=True, help="Site in the collections.")),
    "parameters": ("sources.parameters", click.option("--parameters", help="Folder that `train snapshots` wrote.")),
    "steps": ("sources.steps", click.option("--steps", metavar="STEP,STEP,…", help="Its steps. [default: all]")),
    "architecture": (
        "crosscoder.architecture",
        click.option("--architecture", type=click.Choice(get_args(CrosscoderArchitecture))),
    ),
    "d_sae": ("crosscoder.d_sae", click.option("--d-sae", type=int, help="Number of latents.")),
    "gate": (
        "crosscoder.gate",
        click.option("--gate", type=click.Choice(["shared", "per_source"]), help="Whose active set (jumprelu)."),
    ),
    "k": ("crosscoder.k", click.option("--k", type=float, help="Active latents per row (topk, batchtopk).")),
    "l1": (
        "crosscoder.l1_coefficient",
        click.option("--l1", type=float, help="Coefficient of the penalty (standard, jumprelu, gated)."),
    ),
    "target_l0": (
        "crosscoder.target_l0",
        click.option("--target-l0", type=float, help="L0 that the coefficient is steered to."),
    ),
    "preprocess": (
        "crosscoder.preprocess",
        click.option("--preprocess", type=click.Choice(get_args(Preprocess)), help="What each source's rows undergo."),
    ),
    **RUN_OPTIONS,
}
"""Parameter → place in the configuration file, and the flag."""


def _settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Return place → value of the flags that were given; stored parameters are always snapshots."""
    if flags["steps"] is not None:  # words are left for the schema to refuse
        parts = [part.strip() for part in flags["steps"].split(",")]
        flags = flags | {"steps": [int(part) if part.isdecimal() else part for part in parts]}
    if flags["parameters"] is not None and flags["axis"] is None:
        flags = flags | {"axis": "snapshot"}
    return {OPTIONS[flag][0]: value for flag, value in flags.items() if value != ()}


def _words(artifact: "CrosscoderArtifact", release: Path) -> list[object]:
    """Return what `saereg build` wants to know: rows of parameters are read from the checkpoints of the model."""
    from saereg.schemas.manifest import Manifest

    manifest = Manifest.read(release / MANIFEST_FILE)
    evaluations = (manifest.evaluations.get(claim.evaluation or "") for claim in artifact.claims)
    if any(evaluation is not None and evaluation.source == "parameters" for evaluation in evaluations):
        return ["--model", f"{manifest.sites[artifact.sources.site_keys[0]].model}=FOLDER"]
    return []


@click.command(short_help="Train a crosscoder over layers, models or snapshots.")
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@settings_options(OPTIONS)
@release_options
@build_option
def crosscoder(
    config: Path | None,
    release: Path,
    checkpoints: Path | None,
    builds: bool,
    name: str | None,
    title: str | None,
    licence: str | None,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Train a crosscoder over layers, models or pretraining snapshots and add it to a release folder.

    Settings come from a YAML file (see `saereg schema train-crosscoder`), from flags, or both; flags win. The same
    settings give the same bytes on one machine. Ctrl-C and SIGTERM save; the same command goes on from there. Under
    torchrun the latents are shared among the processes.
    """
    from saereg.schemas.document import canonical

    hush()
    settings = overlaid(read_yaml(config) if config else {}, _settings(flags))
    require_id(settings, config)
    parsed = CrosscoderTrainConfig.from_text(canonical(settings), config or "flags")
    info = release_info(release, name, title, licence)
    from saereg.trainers.crosscoder.train import train_crosscoder

    where = checkpoints or release.absolute().parent / CHECKPOINTS
    with one_voice() as group, training_bar(f"train {parsed.artifact.id}") as progress:
        done = train_crosscoder(parsed, release, where, progress, info=info, group=group)
        facts = [*facts_of(done.artifact), *progress.facts()]
        click.echo(f"{done.artifact.id}: {', '.join(facts)}, weights sha256 {done.weights_sha256[:16]}…")
        # of several processes the others are gone by now, and signals with them: one alone would build unattended
        alone = builds and os.environ.get("WORLD_SIZE", "1") == "1"
        built_after_training(release, checkpoints, builds=alone, words=_words(done.artifact, release))
