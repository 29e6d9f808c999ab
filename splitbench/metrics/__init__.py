"""Scores of a guess against the truth, one per file."""
