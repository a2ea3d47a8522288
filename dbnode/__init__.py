"""The DB node: one process, one store, request and reply.

It records runtimes, functions and calls, hands out call numbers and epochs, and answers a
change only when it is durable. It never judges a call (the api that owns it does), never
starts one, and knows no worker. Pure rules: ``catalogue``, ``ledger``, ``calls``, ``rows``,
``listing``; stores behind ``store.Store``: ``memory`` and ``tinystore``; the shell: ``desk``,
``server``, ``main``.
"""
