"""Results: a run as tables, derived from its journal. ledger, trial: where everything stands; results: what people
read; winner, sealed_test: the test split, opened once; export, importance, forest_anova: what is made of a run.

What this folder may not do: start anything.
"""
