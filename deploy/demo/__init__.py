"""``make cluster-demo``: a cluster that is brought up, loses a node, is restarted, and goes.

Standard library only, as it has to run from a clean clone: docker, docker-compose and curl do
the work. ``tour`` is what happens, ``cluster`` the project of compose, ``page`` what is seen,
``tally`` what the records of the calls say.
"""
