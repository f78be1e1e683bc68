"""Frozen values and the pure functions over them. Nothing here does I/O or reads a clock."""
