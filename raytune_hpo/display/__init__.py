"""Display: what people see: progress, tables, plots. screen, verdict_screen: run and its kind, and what is shown of them.

What this folder may not do: know more than results and the journal say.
"""
