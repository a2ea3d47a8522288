"""The driver ``process``."""

import errno
from typing import Final

from miniworker.fake import FakeSandbox

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class ConfinedSandbox(FakeSandbox):
    """A confined process."""
