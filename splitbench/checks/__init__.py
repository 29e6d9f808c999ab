"""Part of the core."""
