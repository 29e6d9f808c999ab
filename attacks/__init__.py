"""Attacks on released features, one method per file."""
