"""docs/protocol.md and the classes of the wire say the same, field by field."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from wire import jobs, messages, records
from wire.codec import Dialect, Message
from wire.models import Model

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")

TABLES: list[tuple[str, Dialect[Message], set[str]]] = [
    ("From worker to api", messages.FROM_WORKER, {"session"}),
    ("From api to worker", messages.FROM_API, {"session"}),
    ("From miniworker to worker", jobs.FROM_MINIWORKER, set()),
    ("From worker to miniworker", jobs.TO_MINIWORKER, set()),
]


def section(title: str) -> str:
    """Return the text of the section under a heading of any depth."""
    match = re.search(
        rf"^(#+) {re.escape(title)}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert match, f"docs/protocol.md has no section {title!r}"
    return match[2]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the section's table, without its two head rows."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def wire_name(cls: type[Message]) -> str:
    """``WorkerHeartbeat`` is WORKER_HEARTBEAT on the page."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()


def listed(cell: str) -> list[str]:
    return [field.strip() for field in cell.split(",") if field.strip()]


@pytest.mark.parametrize(("title", "dialect", "common"), TABLES, ids=lambda v: str(v)[:30])
def test_every_message_stands_on_the_page(
    title: str, dialect: Dialect[Message], common: set[str]
) -> None:
    documented = {row[0].split(" ")[0]: listed(row[1]) for row in rows(title)}
    coded = {
        wire_name(cls): [f for f in cls.__struct_fields__ if f not in common]
        for cls in dialect.kinds.values()
    }
    assert documented == coded


def test_the_rows_say_answer_and_loss() -> None:
    for title, _, _ in TABLES:
        for row in rows(title):
            assert len(row) == 4, row
            assert row[3], f"{row[0]}: what if it is lost?"


def test_messages_without_a_session_are_marked() -> None:
    for title, dialect, common in TABLES:
        if not common:
            continue
        marked = {row[0].split(" ")[0] for row in rows(title) if "no session" in row[0]}
        bare = {
            wire_name(cls)
            for cls in dialect.kinds.values()
            if "session" not in cls.__struct_fields__
        }
        assert marked == bare


def camel_fields(model: type[Model]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(model)]


def test_every_request_of_the_db_node_stands_on_the_page() -> None:
    documented = {
        row[0].strip("`"): (listed(row[1]), listed(row[2])) for row in rows("The DB node")
    }
    coded = {
        name: (camel_fields(content), camel_fields(answer))
        for name, (content, answer) in records.REQUESTS.items()
    }
    assert documented == coded


def test_orders_of_the_zygote_stand_on_the_page() -> None:
    text = " ".join(section("Worker and zygote").split())
    for order in (jobs.Spawn, jobs.Kill, jobs.Spawned, jobs.Exited):
        fields = ", ".join(order.__struct_fields__)
        assert f"**{order.__name__}** ({fields})" in text


def test_kinds_are_unique_over_all_links() -> None:
    kinds = [kind for _, dialect, _ in TABLES for kind in dialect.kinds]
    assert len(kinds) == len(set(kinds))
