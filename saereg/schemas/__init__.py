"""What is on disk: pydantic models and the standard library only."""
