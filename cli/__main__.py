"""``python -P -m cli``: the same as ``skep``."""

from cli.main import main

main(prog_name="skep")
