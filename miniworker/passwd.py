"""Which numbers a user of an image has: pure, ``USER`` and its two files in, numbers out."""

from __future__ import annotations


def is_numeric(user: str) -> bool:
    """Return whether a ``USER`` says all by itself: a uid, or a uid and a gid."""
    return all(part.isdigit() for part in user.split(":")[:2])


def resolve(user: str, passwd: str, group: str) -> tuple[int, int] | None:
    """Return (uid, gid) of a ``USER`` line; None if the image has no such user or group.

    As the engine does: a uid that the image does not know has the group 0.
    """
    name, _, group_name = user.partition(":")
    entry = _entry(name, passwd, number=2)
    if entry is None and not name.isdigit():
        return None
    uid = int(entry[2]) if entry else int(name)
    gid = int(entry[3]) if entry else 0
    if group_name:
        found = _entry(group_name, group, number=2)
        if found is None and not group_name.isdigit():
            return None
        gid = int(found[2]) if found else int(group_name)
    return uid, gid


def _entry(wanted: str, lines: str, number: int) -> list[str] | None:
    for line in lines.splitlines():
        fields = line.split(":")
        if len(fields) > number + 1 and wanted in (fields[0], fields[number]):
            return fields
    return None
