"""`saereg train sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.building import build_option, built_after_training
from saereg.cli.configuration import read_yaml
from saereg.cli.options import executor_option
from saereg.cli.progress import training_bar
from saereg.cli.training import facts_of, release_info, release_options
from saereg.registry.release import CHECKPOINTS

if TYPE_CHECKING:
    from saereg.schemas.manifest import Artifact


@click.command(short_help="Train many dictionaries from one YAML file.")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@release_options
@executor_option
@build_option
@click.option("--list", "only_listed", is_flag=True, help="Say what would be trained together, and train nothing.")
def sweep(
    config: Path,
    release: Path,
    checkpoints: Path | None,
    executor: str | None,
    builds: bool,
    only_listed: bool,
    **new: str | None,
) -> None:
    """Train many dictionaries from one YAML file (see `saereg schema train-sweep`) and add them to a release.

    A stopped sweep goes on where it was when it is started again.
    """
    from saereg.registry.work.opening import open_executor
    from saereg.schemas.document import canonical
    from saereg.schemas.sweep import SweepConfig
    from saereg.trainers.sweep import groups, train_all, train_group

    parsed = SweepConfig.from_text(canonical(read_yaml(config)), config)
    found = groups(parsed, release, checkpoints or release.absolute().parent / CHECKPOINTS, None)
    if only_listed:
        for group in found:
            click.echo(f"{group.name}: {', '.join(one.artifact.id for one in group.configs)}")
        return
    info = release_info(release, new["name"], new["title"], new["licence"])
    found = groups(parsed, release, checkpoints or release.absolute().parent / CHECKPOINTS, info)
    if executor is None:
        for position, group in enumerate(found):
            with training_bar(f"train {group.name} ({position + 1} of {len(found)})") as progress:
                _say(train_group(group, progress))
    else:
        with open_executor(executor) as workers:
            for artifacts in train_all(found, workers):
                _say(artifacts)
    built_after_training(release, checkpoints, builds=builds)


def _say(artifacts: "tuple[Artifact, ...]") -> None:
    for artifact in artifacts:
        click.echo(f"{artifact.id}: {', '.join(facts_of(artifact))}")
