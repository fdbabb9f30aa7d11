"""Probes: short measurements before a search. lr_range: which learning rates train; max_batch: which batch fits.

What this folder may not do: keep what it trained.
"""
