"""Claims judged by measurements, and what explains those that fail."""
