"""Independent work on one process, on many, or on many machines: one seam, `concurrent.futures.Executor`."""
