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

LATENTS_FILE = "latents.safetensors"
"""How often and how strongly each latent is active, measured on an evaluation of the release."""

FEATURES_FILE = "features.json"
"""Feature view: some latents with the contexts that activate them most."""

ARTIFACT_CARD_FILE = "README.md"
"""Card of one artifact, in its folder."""

FIGURES = "figures"
"""Folder of a release in which its figures are."""

LOG_FILE = "training.log"
"""Log of a training run."""

CONVERSION_FILE = "conversion.json"
"""What a dictionary was converted from, and the proof that it is the same."""

SIGNATURE_FILE = "model.sig"
"""Signature at the root of a release, beside the manifest and the index; no file of the index itself."""
