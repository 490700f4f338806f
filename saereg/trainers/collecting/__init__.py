"""From text, and from checkpoints, to rows on disk that dictionaries are trained on."""
