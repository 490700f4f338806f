"""Cards: what a README.md says, what a manifest says it should, and the parts of it that saereg writes."""
