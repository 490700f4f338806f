"""File names in the folder of a dictionary. Does not import torch."""

CONFIG_FILE = "cfg.json"
"""Configuration of a dictionary, in both layouts."""

WEIGHTS_FILES = {"saelens": "sae_weights.safetensors", "saereg": "weights.safetensors"}
"""Layout → file of its weights."""

GOLDEN_FILE = "golden.safetensors"
"""Fixed inputs and what the source of the weights makes of them."""

SPARSITY_FILE = "sparsity.safetensors"
"""Firing frequencies that SAELens' trainer leaves behind, log10."""

ANALYSIS_FILE = "decoder_analysis.safetensors"
"""Decoder norms of a crosscoder at each of its sources, and cosines between sources."""

LOG_FILE = "training.log"
"""Log of a training run."""

CONVERSION_FILE = "conversion.json"
"""What a dictionary was converted from, and the proof that it is the same."""

SIGNATURE_FILE = "model.sig"
"""Signature at the root of a release, beside the manifest and the index; no file of the index itself."""
