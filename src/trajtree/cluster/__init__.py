"""Playing and other stages on a Ray cluster: inputs travel as objects, and only this process writes results.

Nothing outside this package imports Ray, and nobody imports this package unless asked for a cluster.
"""
