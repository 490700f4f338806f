"""From a grid of training checkpoints to a release."""
