"""What SAELens itself makes of a published release: the independent reader to compare with."""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from saereg.registry.models.model import require

if TYPE_CHECKING:
    from torch import Tensor

CODE = "import sys; from saereg.trainers.saelens.reader import reconstruct; reconstruct(*sys.argv[1:])"


def reconstructed(
    repo: str, rows: "Mapping[str, Tensor]", run: Callable[[list[str]], object]
) -> "dict[str, tuple[Tensor, Tensor]]":
    """Return (f, x_hat) of rows by `sae_lens.SAE.from_pretrained`, which a process of its own calls.

    The client of the Hub reads the address of the Hub when it is imported, so that this one cannot turn to another.

    Args:
        repo: repository, `org/name`.
        rows: id of an artifact → rows (n, d_in).
        run: runs Python with arguments, in a process in which HF_ENDPOINT names the hub.
    """
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as place:
        files = [os.path.join(place, name) for name in ("rows.safetensors", "found.safetensors")]
        save_file(dict(rows), files[0])
        run(["-c", CODE, repo, *files])
        found = load_file(files[1])
    return {name: (found[f"{name}/f"], found[f"{name}/x_hat"]) for name in rows}


def reconstruct(repo: str, rows: str, found: str) -> None:
    """Write what SAELens makes of rows.

    Args:
        repo: repository, `org/name`.
        rows: safetensors file with one tensor (n, d_in) per artifact, named by its id.
        found: file that is written, with `ID/f` and `ID/x_hat` of each.

    Raises:
        MissingExtraError: without the `train` extra.
    """
    torch = require("torch", "reading with SAELens")
    sae_lens = require("sae_lens", "reading with SAELens")
    from safetensors.torch import load_file, save_file

    made: dict[str, Tensor] = {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for name, x in load_file(rows).items():
            dictionary = sae_lens.SAE.from_pretrained(repo, name)
            made |= {f"{name}/f": dictionary.encode(x), f"{name}/x_hat": dictionary(x)}
    save_file(made, found)
