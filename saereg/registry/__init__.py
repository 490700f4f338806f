"""What the files of a release mean."""
