"""Bare encoders whose dependencies contradict embedfleet's, each in an environment of its own.

`process` is the side of the benchmark. The others run in those environments, with numpy and their library:
they must not import embedfleet.
"""
