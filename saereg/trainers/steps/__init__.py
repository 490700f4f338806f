"""Training classes of our own, registered with SAELens: steps that do no dense work for sparse codes, and variants."""
