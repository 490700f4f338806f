"""Documents of an earlier version or of another make, turned into those of today."""
