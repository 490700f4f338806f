"""What the latents of a dictionary do: how often, how strongly, in which contexts."""
