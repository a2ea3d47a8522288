"""The room of one sandbox: a small blocking process that owns it and runs its attempts.

It is a fork server (``zygote``), the loop that each fork runs (``loop``), the decisions in it
(``attempts``), and the drivers that make sandboxes (``fake``, ``confined``). It is not a
broker: which call goes where, and what becomes of a lost one, is the worker's to decide.
"""
