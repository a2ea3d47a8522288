"""Makes the images that most tests need, before them: else several would wait for each.

python -m tests.images
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests import engine
from tests.deploy import platform_image


def main() -> None:
    """Make them two at a time, for each waits for a network half of the time; print each."""
    with ThreadPoolExecutor(2) as pool:
        platform = pool.submit(platform_image.settings)
        for image in pool.map(engine.runtime_image, ("python", "node", "php", "shell")):
            print(image, flush=True)
        print(platform.result()["SKEP_IMAGE"], flush=True)


if __name__ == "__main__":
    main()
