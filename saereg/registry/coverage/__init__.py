"""Which families of models have checkpoints, dictionaries and results: sourced facts, and the catalogue."""
