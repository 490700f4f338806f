"""SAELens' own layout: cfg.json and sae_weights.safetensors. Torch is imported late.

Source: SAELens 6.54, `constants.py`, `SAE.save_model`, `SAE.load_from_disk`.
"""

from pathlib import Path

from saereg.errors import FormatError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.formats.format import Format
from saereg.registry.formats.layout import CONFIG_FILE, WEIGHTS_FILES
from saereg.registry.formats.tensorfile import raw_config, read_folder, tensor_names, write_folder
from saereg.schemas.cfg import SaelensConfig

NAME = "saelens"
WEIGHTS_FILE = WEIGHTS_FILES[NAME]


def detect(folder: Path) -> bool:
    """Whether cfg.json has SAELens' keys, and the weights the tensors that all its architectures share."""
    cfg = raw_config(folder)
    if cfg is None or cfg.get("kind") == "crosscoder" or not {"d_in", "d_sae"} <= cfg.keys():
        return False
    return {"W_dec", "b_dec"} <= tensor_names(folder / WEIGHTS_FILE)


def read(folder: Path, device: str = "cpu") -> Checkpoint:
    """Read an inference or training checkpoint of SAELens.

    Raises:
        FormatError: when a file is missing, or cfg.json is that of a crosscoder.
        DocumentError: when cfg.json does not fit its schema.
        WeightsError: when the weights are no safetensors, or are not what the configuration says.
    """
    checkpoint = read_folder(folder, WEIGHTS_FILE, device)
    _require_saelens(checkpoint, folder)
    return checkpoint


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write what SAELens' `SAE.load_from_disk` reads: every key of cfg.json is spelt out.

    Raises:
        FormatError: for a crosscoder, or when `metadata.sae_lens_version` is not set.
        WeightsError: when a tensor is missing, extra, or not of the configuration's shape and type.
    """
    cfg = _require_saelens(checkpoint, folder)
    if cfg.metadata.sae_lens_version is None:
        problem = "`metadata.sae_lens_version` is not set, so SAELens would drop all metadata on loading"
        raise FormatError(folder / CONFIG_FILE, f"{problem}; set it to the version that made the weights")
    write_folder(checkpoint, folder, WEIGHTS_FILE, metadata=None)


def _require_saelens(checkpoint: Checkpoint, folder: Path) -> SaelensConfig:
    if not isinstance(checkpoint.cfg, SaelensConfig):
        raise FormatError(folder, "SAELens has no crosscoder; use the layout 'saereg-crosscoder'")
    return checkpoint.cfg


FORMAT = Format(NAME, detect, read, write)
