"""Data that the package carries."""
