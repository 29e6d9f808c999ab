"""Changing the plan while the network changes, and what that is worth.

Privacy is not traded for speed here: whatever leaks more than the limit is on no menu.
"""
