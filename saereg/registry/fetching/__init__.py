"""Releases on the Hub, read by those who use them: verified there, fetched in part, pinned."""
