"""Many dictionaries measured, here or on many machines, and resumed where a run was stopped."""
