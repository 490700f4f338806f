"""The pre-commit hooks: from changed files to the releases they are in, and one `saereg validate` for each.

python -m saereg.cli.hook [OPTION OF VALIDATE ...] FILE ...
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import click

from saereg.cli import run
from saereg.cli.validate import command as validate

MARKS = ("manifest.json", "index.json")
"""What makes a folder a release: the author's document; or the tool's, so that a manifest that went away is noticed."""


def validate_changed(arguments: Sequence[str]) -> int:
    """Validate every release with a changed file, and return the worst exit code; 0 when no file is in a release.

    Args:
        arguments: options of `saereg validate`, and files relative to the working directory, as pre-commit gives them.
    """
    options, files = split(arguments)
    worst = 0
    for folder in releases_of(files):
        click.echo(f"{folder}:", err=True)
        worst = max(worst, run(["validate", *options, "--", str(folder)]))
    return worst


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the options of validate, with their values, from the files."""
    taking = {
        name
        for option in validate.params
        if isinstance(option, click.Option) and not (option.is_flag or option.count)
        for name in option.opts
    }
    options: list[str] = []
    files: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            files += words
        elif word.startswith("-"):
            options.append(word)
            if word in taking:
                options += [value] if (value := next(words, None)) is not None else []
        else:
            files.append(word)
    return options, files


def releases_of(files: Iterable[str]) -> list[Path]:
    """Return the release folders that files are in, sorted: for each file the nearest folder above it with a mark.

    Folders above the working directory, which is the root of the repository, do not count.
    """
    found = {_release_of(PurePath(file)) for file in files}
    return sorted(folder for folder in found if folder is not None)


def _release_of(file: PurePath) -> Path | None:
    for mark in MARKS:
        for folder in file.parents:
            if (Path(folder) / mark).is_file():
                return Path(folder)
    return None


if __name__ == "__main__":
    sys.exit(validate_changed(sys.argv[1:]))
