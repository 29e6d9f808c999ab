"""Defenses of released features, one method per file."""
