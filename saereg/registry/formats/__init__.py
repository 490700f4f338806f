"""The layouts that saereg reads and writes. Importing this does not import torch."""

from saereg.registry.formats import crosscoder, saelens
from saereg.registry.formats.format import Format

FORMATS: dict[str, Format] = {layout.name: layout for layout in (saelens.FORMAT, crosscoder.FORMAT)}
"""Name → layout."""
