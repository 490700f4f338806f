"""Who makes dictionaries: collection of activations, training, export into a release folder.

Importing this, or any module in it, imports neither torch nor transformers nor SAELens; running does.
"""
