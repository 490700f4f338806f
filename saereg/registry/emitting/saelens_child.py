"""Run by itself, in a process of its own: SAELens' own parser on a yaml file, without the rest of SAELens.

Arguments: the parser's module file, and a folder with `pretrained_saes.yaml`. What it understood goes to stdout.
"""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    """Parse, and say what was understood."""
    module, folder = Path(sys.argv[1]), Path(sys.argv[2])
    spec = importlib.util.spec_from_file_location("pretrained_saes_directory", module)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018  # a file that ends with .py
    parser = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = parser
    spec.loader.exec_module(parser)
    vars(parser)["files"] = lambda package: folder  # where it looks for the file of its package
    found = parser.get_pretrained_saes_directory()
    json.dump({name: asdict(lookup) for name, lookup in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
