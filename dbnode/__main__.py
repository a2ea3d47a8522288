"""``python -P -m dbnode`` is ``skep-dbnode``."""

from dbnode.main import main

main()
