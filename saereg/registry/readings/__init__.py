"""How a layout is read: what lies at a path, recipes for its tensors, the publisher's forward to check them with."""
