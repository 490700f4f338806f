"""saereg: releases of sparse autoencoders, transcoders and crosscoders, verified."""

__version__ = "0.1.0"
