"""Starts workers as actors of a Ray cluster.

Ray ends the process of a driver that loses the cluster's head for a minute. So the driver is a child process
(`ray_driver`), which `driver_link` starts again, and the orchestrator lives on. `messages` has what the two
say, `launcher` the port's adapter, `placement` the rule about which node can take a worker.

May import: workers, job_manager, traffic, experiments and below.
"""
