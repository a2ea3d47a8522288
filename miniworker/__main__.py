"""``python -P -m miniworker``: the zygote, and the probe of what this host can confine."""

from miniworker.main import main

main()
