"""Language models to read activations from: load one, find a site in it, hold what a forward pass gives there."""
