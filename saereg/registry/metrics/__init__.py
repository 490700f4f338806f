"""Metric definitions, the sums they follow from, and the engine that computes those."""
