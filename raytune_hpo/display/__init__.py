"""Display: what people see: progress, tables, plots; screen and verdict_screen: run and its kind as people see them.

What this folder may not do: know more than results and the journal say.
"""
