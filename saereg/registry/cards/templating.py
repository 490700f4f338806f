"""Templates of cards: those of saereg, and those with which a user replaces them.

Ours are rendered here. Those of a user may be anybody's: they are rendered in a process of their own, sandboxed, with
limits on time, memory and the length of what they write, so that none can hang the tool or fill the machine.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.cards.marking import alt, cleaned, code, codes, fenced, link, prose, short, table, text

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

OURS = Path(__file__).parent / "templates"
"""Templates that come with saereg; a user's folder has files of the same names in place of some of them."""


def _table(value: Mapping[str, list[list[str]]]) -> str:
    """Return a table of `header` and `rows`."""
    return table([str(cell) for cell in value["header"]], value["rows"])


FILTERS: Mapping[str, Callable[..., str]] = {
    "text": text, "code": code, "codes": codes, "prose": prose, "cleaned": cleaned, "alt": alt, "fenced": fenced,
    "short": short, "link": link, "table": _table, "count": lambda value: f"{value:,}",
}  # fmt: skip
"""What a template can do with a value, beside Jinja's own filters; docs/cards.md says what each one does."""


def rendered(name: str, templates: Path | None = None, /, **values: object) -> str:
    """Return what a template makes of some values.

    Args:
        name: file below the folder of templates, e.g. `artifact.md.j2`.
        templates: folder of the user's own; what is not in it is taken from saereg's.
        values: what the template can name; for a user's own they must be such as JSON has.

    Raises:
        UsageError: when a template of the user cannot be read, fails, or takes too long, with its file and line.
    """
    if has_own(name, templates):
        from saereg.registry.cards.template_runner import rendered_apart

        assert templates is not None  # noqa: S101 - it has the file
        return rendered_apart(name, templates, values)
    from jinja2 import TemplateError

    try:
        return environment(None).get_template(name).render(**values)
    except TemplateError as error:
        raise UsageError(f"{OURS / name}: {error}") from None


def has_own(name: str, templates: Path | None) -> bool:
    """Whether the user's folder has a template of this name.

    Raises:
        UsageError: when there is no such folder.
    """
    if templates is None:
        return False
    if not templates.is_dir():
        raise UsageError(f"{templates}: no folder of templates; make it, or leave --templates out")
    return (templates / name).is_file()


@cache
def environment(templates: Path | None) -> "ImmutableSandboxedEnvironment":
    """Return the sandboxed environment: a template of somebody else reads values, and nothing else."""
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    found = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader([folder for folder in (templates, OURS) if folder]),
        autoescape=False,  # Markdown; texts of others go through filters of their own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        undefined=StrictUndefined,
    )
    found.filters.update(FILTERS)
    return found
