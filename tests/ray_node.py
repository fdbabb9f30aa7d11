"""One node of a Ray cluster on loopback: python ray_node.py head|ADDRESS NUMBER

Prints the head's address and the raylet's process id as one line, then lives until its stdin closes. Trials find
NUMBER in the environment as NODE_NUMBER.
"""

from __future__ import annotations

import os
import sys

# Loopback, on Linux as well: see _closed_to_the_outside in raytune_hpo/workers/ray_runtime.py.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["NODE_NUMBER"] = sys.argv[2]
# A dead node is noticed in seconds instead of half a minute.
os.environ |= {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
}

from ray._private.node import Node
from ray._private.parameter import RayParams

is_head = sys.argv[1] == "head"
parameters = RayParams(
    gcs_address=None if is_head else sys.argv[1],
    redis_address=None if is_head else sys.argv[1],
    node_ip_address="127.0.0.1",
    node_manager_port=0,
    min_worker_port=0,
    max_worker_port=0,
    num_cpus=1,
    num_gpus=0,
    object_store_memory=100 * 1024 * 1024,
    include_dashboard=False,
    include_log_monitor=False,
)
if not is_head:
    parameters.dashboard_agent_listen_port = None
node = Node(parameters, head=is_head, shutdown_at_exit=True, spawn_reaper=True)
print(node.gcs_address, node.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.read()
