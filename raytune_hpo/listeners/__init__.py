"""Listeners: who is told of a run's events, while it goes on or afterwards.

    listener             Listener: the interface, and RunView, what a listener is told of the run
    registry             the listeners by name, and what else stands in `listeners=`
    following            a thread a listener, which reads the journal with a cursor; `follow`, the same over any run
    derived_file         a file that follows from the journal, each record in it once
    tensorboard          event files for TensorBoard, whose records tensorboard_records makes
    ray_callback         callbacks of Ray Tune's (its loggers, ...) as listeners

What this folder may not do: change a run, or make it wait.
"""
