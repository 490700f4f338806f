"""Many releases in one SQLite file, and the questions that can be put to it."""
