"""Conditions on artifacts: one language, read once, answered in memory and by a catalogue alike."""
