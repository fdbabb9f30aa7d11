"""Workers: where trials run, as Ray actors. Processes of one trial each, or arrays of lanes.

    pool, lane_pool          what the engine gives trials to (`pool.Workers`)
    worker, lane_array       the actors; executors: which of both, and how they are started
    function_session         a function trainable, one report at a time
    reporting, tune_session  what it calls: ours, and Ray Tune's
    trainable, class_trainable, fold_process   a task, a class Trainable, folds as such functions
    lane_calls, lane_capacity, lane_writer     what pool and array say to each other, memory, files of lanes
    ray_runtime, machine, phases               Ray's start, what of the machine is ours, where the time goes

What this folder may not do: decide about a trial.
"""
