"""How often and how strongly each latent of a dictionary is active, as a file beside its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.blocks import read_tensor, write_tensors
from saereg.registry.files.header import read_header
from saereg.schemas import jsontext
from saereg.schemas.document import canonical

if TYPE_CHECKING:
    from torch import Tensor

FIRED, TOTAL, MAXIMUM = "fired", "total", "maximum"

FACTS = "saereg_latents"
"""Entry of the metadata: JSON. One entry, because safetensors writes several in an order that is another each time."""


@dataclass(frozen=True, eq=False)
class Latents:
    """Statistics of every latent over the rows of one evaluation.

    S is the number of sources where a crosscoder has a gate for each of them, else 1.

    Attributes:
        fired: rows in which it is active, (S, F), int64.
        total: sum of its activations over those rows, (S, F), float64.
        maximum: largest activation, (S, F), float32; 0 where it is never active.
        rows: rows that were encoded.
        evaluation: name of the evaluation in the manifest.
        data_sha256: digest of its rows.
        weights_sha256: digest of the weights; of several files as `weights_digest` has it.
    """

    fired: "Tensor"
    total: "Tensor"
    maximum: "Tensor"
    rows: int
    evaluation: str
    data_sha256: str
    weights_sha256: str

    @property
    def frequency(self) -> "Tensor":
        """Share of rows in which each latent is active, (S, F), float64."""
        return self.fired.double() / max(self.rows, 1)

    @property
    def mean_active(self) -> "Tensor":
        """Mean activation over the rows in which it is active, (S, F), float64; 0 where there is none."""
        return self.total / self.fired.clamp_min(1)


def write_latents(path: Path, latents: Latents) -> None:
    """Write the file; the same statistics give the same bytes.

    Raises:
        OSError: when it cannot be written.
    """
    facts = {
        "rows": latents.rows,
        "evaluation": latents.evaluation,
        "data_sha256": latents.data_sha256,
        "weights_sha256": latents.weights_sha256,
    }
    tensors = {FIRED: latents.fired.long(), TOTAL: latents.total.double(), MAXIMUM: latents.maximum.float()}
    write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, {FACTS: canonical(facts)})


def read_latents(path: Path) -> Latents:
    """Read the file.

    Raises:
        WeightsError: when it is not such a file.
        OSError: when it cannot be read.
    """
    header = read_header(path)
    try:
        facts = jsontext.parse(header.metadata[FACTS])
        if not isinstance(facts, dict):
            raise TypeError("its metadata is no object")
        fired, total, maximum = (read_tensor(path, header, name) for name in (FIRED, TOTAL, MAXIMUM))
        found = Latents(
            fired.long(),
            total.double(),
            maximum.float(),
            int(str(facts["rows"])),
            str(facts["evaluation"]),
            str(facts["data_sha256"]),
            str(facts["weights_sha256"]),
        )
    except (KeyError, TypeError, ValueError, jsontext.JsonError) as error:
        raise WeightsError(path.name, f"is no file of latents: {error}; saereg build writes it again") from None
    if not (fired.dim() == 2 and fired.shape == total.shape == maximum.shape):
        raise WeightsError(path.name, "its tensors differ in shape; saereg build writes it again")
    return found
