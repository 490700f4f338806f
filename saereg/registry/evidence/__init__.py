"""What can be found out about released weights: one pass over the file, golden vectors, the round trip."""
