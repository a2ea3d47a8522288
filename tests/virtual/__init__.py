"""A platform in virtual time: the deciders of api, worker and DB node, without their shells.

What decides is the product's own; what is played here is what the shells do with it: sockets,
clocks, processes, disks. Nothing waits for anything, so hours pass in seconds, and the same
seed gives the same run to the last message.
"""
