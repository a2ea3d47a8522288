"""Tests of {{name}}: python3 -m unittest, or pytest."""

from __future__ import annotations

import unittest

from main import handler


class HandlerTest(unittest.TestCase):
    def test_it_greets(self) -> None:
        self.assertEqual(handler(name="Ada"), {"hello": "Ada"})

    def test_it_greets_the_world_unless_told_whom(self) -> None:
        self.assertEqual(handler(), {"hello": "world"})


if __name__ == "__main__":
    unittest.main()
