"""Dictionaries run over many rows, as fast as the machine multiplies matrices."""
