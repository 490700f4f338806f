"""The registry of SAELens, `pretrained_saes.yaml`: read with its line numbers, and linted."""
