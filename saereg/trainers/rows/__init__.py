"""What trainers read: rows of stored activations or parameters, and batches of them in an order that can be resumed."""
