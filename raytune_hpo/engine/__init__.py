"""The engine: moves a run from its first suggestion to its winner's test, and through every crash on the way.

    run, session, reopening   from an experiment, or a run directory, to results; retry, with its failed trials again
    driver          gives trials to workers, takes their reports, journals every step
    population      the state of a run as a machine that is moved by events alone
    judge           what a report means for the trial and for the run; fail_fast, when failures stop the run
    retention       which checkpoints may go
    interventions, lr_narrowing, interrupt   a person's commands; narrowed learning rates; Ctrl-C

What this folder may not do: train, or know in which processes trials run.
"""
