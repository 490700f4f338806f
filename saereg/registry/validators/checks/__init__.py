"""The checks themselves, one file per subject: generators of findings, pure but for reading the release."""
