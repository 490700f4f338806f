"""What changed between two releases, which version the changes demand, and the section of a changelog."""
