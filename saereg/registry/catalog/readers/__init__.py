"""What may enter a catalogue: releases, the SAELens registry, foreign inventories; each becomes rows."""
