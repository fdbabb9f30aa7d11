"""Exports: a run as files that other people's tools open.

Each reads the journal alone, without ray and torch; MLflow's has the winner's model besides, which `results.export`
makes.
"""
