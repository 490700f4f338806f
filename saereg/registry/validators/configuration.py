"""Find and read saereg.toml or `[tool.saereg]` of pyproject.toml."""

import tomllib
from math import isfinite
from pathlib import Path

from saereg.errors import DocumentError
from saereg.schemas.document import canonical
from saereg.schemas.settings import Settings

SETTINGS_FILE, PROJECT_FILE = "saereg.toml", "pyproject.toml"


def find_settings(start: Path) -> Path | None:
    """Return the nearest configuration: of a folder, or of those above it up to the root of its git repository.

    In one folder saereg.toml wins over pyproject.toml, which counts only where it has a table `[tool.saereg]`.

    Raises:
        DocumentError: when a pyproject.toml on the way cannot be read.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / SETTINGS_FILE).is_file():
            return folder / SETTINGS_FILE
        if (folder / PROJECT_FILE).is_file() and "saereg" in _tools(folder / PROJECT_FILE):
            return folder / PROJECT_FILE
        if (folder / ".git").exists():
            return None
    return None


def read_settings(path: Path) -> Settings:
    """Return the configuration in a file.

    Raises:
        DocumentError: when it is no TOML, or something in it is unknown or does not fit.
        OSError: when it cannot be read.
    """
    raw = _tools(path).get("saereg", {}) if path.name == PROJECT_FILE else _read(path)
    return Settings.from_text(_as_json(raw, path), path)


def _as_json(raw: object, path: Path) -> str:
    """Return the settings as JSON; TOML has dates and numbers that JSON has not."""
    pending: list[tuple[str, object]] = [("", raw)]
    while pending:
        pointer, value = pending.pop()
        if isinstance(value, dict | list):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [(f"{pointer}/{key}", entry) for key, entry in entries]
        elif not isinstance(value, str | int | float) or (isinstance(value, float) and not isfinite(value)):
            raise DocumentError(path, pointer, f"{value} is a {type(value).__name__} that no setting takes")
        elif isinstance(value, int) and abs(value) >= 2**63:  # hexadecimal ones may have more digits than can be shown
            raise DocumentError(path, pointer, f"an integer of {value.bit_length()} bits is no setting")
    try:
        return canonical(raw)
    except RecursionError:
        raise DocumentError(path, "", "nested too deeply to be read") from None


def _tools(path: Path) -> dict[str, object]:
    tools = _read(path).get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8, and of numbers without end
        raise DocumentError(path, "", f"not TOML: {error}") from None
