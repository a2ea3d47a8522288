"""The api: HTTP in, sockets out; truth of the catalogue in memory, dispatch of calls to nodes.

It runs no user code, knows no container engine and opens no store: workers run calls, the
DB node keeps records. What decides is pure (dispatch, backlog, catalogue, roster, policy,
outbox, leases); ``service`` and what it opens is the thin shell around them.
"""
