"""What each generated part of a card shows, worked out from manifest and index; templates make Markdown of it."""
