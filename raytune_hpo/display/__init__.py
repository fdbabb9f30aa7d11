"""Display: what people see: progress, tables, plots.

What this folder may not do: know more than results and the journal say.
"""
