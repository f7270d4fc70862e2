"""Playing and other stages on a Ray cluster: inputs travel as objects, and only this process writes.

Nothing outside this package imports Ray, and nobody imports this package unless asked for a cluster.
"""
