"""saereg's own layout for crosscoders: cfg.json and weights.safetensors, whose header says so too.

Torch is imported late.
"""

from pathlib import Path

from saereg.errors import FormatError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.formats.format import Format
from saereg.registry.formats.layout import WEIGHTS_FILES
from saereg.registry.formats.tensorfile import raw_config, read_folder, tensor_names, write_folder
from saereg.schemas.cfg_crosscoder import CrosscoderConfig

NAME = "saereg-crosscoder"
WEIGHTS_FILE = WEIGHTS_FILES[NAME]


def detect(folder: Path) -> bool:
    """Whether cfg.json says that it is a crosscoder and the weight file has a crosscoder's matrices."""
    cfg = raw_config(folder)
    if cfg is None or cfg.get("kind") != "crosscoder":
        return False
    return {"W_enc", "W_dec", "b_dec"} <= tensor_names(folder / WEIGHTS_FILE)


def read(folder: Path, device: str = "cpu") -> Checkpoint:
    """Read a crosscoder.

    Raises:
        FormatError: when a file is missing, or cfg.json is not that of a crosscoder.
        DocumentError: when cfg.json does not fit its schema.
        WeightsError: when the weights are no safetensors, or are not what the configuration says.
    """
    checkpoint = read_folder(folder, WEIGHTS_FILE, device)
    _require_crosscoder(checkpoint, folder)
    return checkpoint


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a crosscoder: every switch is in cfg.json, `saereg-crosscoder` in the header of the weights.

    Raises:
        FormatError: when it is no crosscoder.
        WeightsError: when a tensor is missing, extra, or not of the configuration's shape and type.
    """
    _require_crosscoder(checkpoint, folder)
    write_folder(checkpoint, folder, WEIGHTS_FILE, metadata={"format": NAME})


def _require_crosscoder(checkpoint: Checkpoint, folder: Path) -> None:
    if not isinstance(checkpoint.cfg, CrosscoderConfig):
        what = f"architecture {checkpoint.cfg.architecture!r} is no crosscoder"
        raise FormatError(folder, f"{what}; use the layout 'saelens'")


FORMAT = Format(NAME, detect, read, write)
