"""Bytes on disk: listed, hashed, read in blocks, written atomically. Knows no dictionary."""
