"""Every dictionary on every corpus."""
