"""Crosscoders over layers, models or pretraining snapshots: their losses, their training, on one device or several."""
