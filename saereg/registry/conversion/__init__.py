"""From one layout to another, with proof."""
