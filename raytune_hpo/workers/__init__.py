"""Workers: where trials run, as Ray actors. Processes of one trial each, or arrays of lanes.

    pool, lane_pool          what the engine gives trials to (`pool.Workers`)
    worker, lane_array       the actors; executors: which of both, and how they are started
    function_session         a function trainable, one report at a time
    reporting, tune_session  what it calls: ours, and Ray Tune's
    trainable, class_trainable, fold_process   a task, a class Trainable, folds as such functions
    lane_calls, lane_capacity, lane_writer     what pool and array say to each other, memory, files of lanes
    ray_runtime, ray_folder, machine, phases   Ray's start and place, what of the machine is ours, where the time goes
    before_start, pickling                     what can be found out before anything is started
    trial_log, warning_count, deaths           what trials say and warn of, and what workers die of

What this folder may not do: decide about a trial.
"""
