"""SQL in named, described files: one folder per backend, loaded as package data."""
