"""One node's process: broker of its miniworkers, sandbox pool, bundles, catalogue replica.

It takes attempts from an api and gives them to miniworkers; it is no judge of calls (the api
is), runs no user code (miniworkers do), and keeps no records (the DB node does).
"""
