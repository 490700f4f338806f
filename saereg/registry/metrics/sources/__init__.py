"""Where the rows come from that dictionaries are measured on: one file per kind of source."""
