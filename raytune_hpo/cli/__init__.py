"""The command line: one verb, one module.

What this folder may not do: anything that cannot be done from Python.
"""
