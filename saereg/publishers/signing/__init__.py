"""Signatures of releases: made and checked by `model-signing`, from digests that are known already."""
