"""Autoencoders and transcoders, trained on SAELens' SAETrainer."""
