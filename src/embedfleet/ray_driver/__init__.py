"""The two programs of the launcher `ray`: the driver beside an orchestrator, and the actor that is a worker.

`__main__` is the driver, `python -m embedfleet.ray_driver`; `placing` asks Ray for actors and follows them.
`consumer` is the actor. What driver and orchestrator say to each other is in `launchers.ray`.

May import: api, tldw, running_worker and below.
"""
