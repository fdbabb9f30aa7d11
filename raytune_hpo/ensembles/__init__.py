"""Ensembles: a run's checkpoints combined into one model.

    library     the checkpoints of a run, their predictions on the validation data
    selection   greedy selection, figures and the bootstrap
    ensemble    chosen, tested once, exported

What this folder may not do: train.
"""
