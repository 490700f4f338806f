"""Inventories of other makes: documents that list dictionaries in a shape of their own."""
