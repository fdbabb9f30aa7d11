"""Ask and tell: a run whose trials are trained by loops that are not ours, in as many processes as like to.

    open_run(FILE, RUN_DIR) -> the first process owns the run: its journal, its driver, in a thread (`owner`)
                            -> the others reach it through a socket in the run directory (`server`)
    ask, report, tell, beat -> owner -> workers.asked_pool.AskedPool -> the driver, as from any workers
    the owner dies          -> the next process that has something to say owns the run, and who trains goes on

    opening     OpenRun: what a process sees
    owner       Owner: the run's session in a thread
    server      the socket, and a request through it

What this folder may not do: decide anything. It is the driver that does.
"""

from raytune_hpo.asking.opening import AskedTrial, OpenRun, open_run

__all__ = ["AskedTrial", "OpenRun", "open_run"]
