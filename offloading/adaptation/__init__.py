"""Changing the plan while the network changes, and what that is worth.

Privacy is not traded for speed here: whatever exceeds a limit is on no menu. The one exception is
the deadline, by which a policy is judged.
"""
