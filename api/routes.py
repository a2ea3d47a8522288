"""Every endpoint, said once: what is not in these tables is not served.

In the order of the documents. ``api.web`` routes by it, ``api.openapi`` describes it, and a
test compares it with docs/api.md.
"""

from __future__ import annotations

from typing import Final

from api import routes_batch, routes_calls, routes_catalogue, routes_platform
from api.asked import Route

ROUTES: Final[tuple[Route, ...]] = (
    *routes_catalogue.ROUTES,
    *routes_calls.ROUTES,
    *routes_batch.ROUTES,
    *routes_platform.ROUTES,
)

#: Paths that are answered without a token.
OPEN: Final = frozenset(route.path for route in ROUTES if route.is_open)


def _paths() -> str:
    by_method: dict[str, list[str]] = {}
    for route in ROUTES:
        by_method.setdefault(route.method, []).append(route.path)
    return "; ".join(f"{method} {', '.join(paths)}" for method, paths in by_method.items())


#: What to do when a path or method is none of these.
PATHS: Final = _paths()
