"""Listeners: who is told of a run's events, while it goes on or afterwards.

    listener      Listener: the interface, and RunView, what a listener is told of the run
    following     a thread for each listener, which reads the journal with a cursor; `follow`, the same over any run
    ray_callback  callbacks of Ray Tune's (its loggers, ...) as listeners

What this folder may not do: change a run, or make it wait.
"""
