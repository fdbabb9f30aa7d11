"""Workers: where trials run, as actors: processes of one trial each, or arrays of lanes; Ray's, or the driver's own.

    pool, lane_pool, growing_pool              what the engine gives trials to (`pool.Workers`)
    executors, choice                          which of them, and how they are started
    worker, lane_array, fold_process           the actors; posting, imports: what they are told when they are made
    messages, lane_calls, outcomes             what driver and actors tell each other
    transport, ray_transport, inline_transport how: to processes of Ray's, or in the driver's own
    function_session, surroundings             a function trainable, one report at a time, and its place in a process
    (process_state, trial_directories, when_imported, nested_tasks: what that is made of)
    reporting, tune_session, metric_values     what a trial calls: ours, and Ray Tune's; what becomes of its metrics
    trainable, class_trainable                 a task, a class Trainable as such functions
    trial_log, warning_count, deaths           what trials say, what they warn of, what workers die of
    before_start, pickling                     what can be known to fail before anything starts
    ray_runtime, ray_folder, machine, phases   Ray's start and its files, the machine's limits, where the time goes
    lane_capacity, lane_writer                 lanes: memory, files

What this folder may not do: decide about a trial.
"""
