"""Errors that a user can mend: one sentence, no traceback."""


class UserError(Exception):
    """What is wrong, and what to do about it."""
