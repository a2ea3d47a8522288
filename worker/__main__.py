"""``python -P -m worker``: the same as ``skep-worker``."""

from worker.main import main

main()
