"""``python -P -m api`` is ``skep-api``."""

from api.main import main

main()
