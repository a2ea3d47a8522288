"""What the engine complains of, as the reason of a call: pure, its words in, ours out.

It decides whose fault it is: what would fail on every node is the function's, the rest is
this node's, and another one may do better.
"""

from __future__ import annotations

from typing import Final

from miniworker.sandbox import STALE, STALE_IMAGE, NoSandbox
from wire.models import Fault

PULL: Final = (
    "docker pull {image}, or build it: runtimes/ has the Dockerfiles of skep's own; an image "
    "whose name begins with its registry is pulled by the node itself"
)
_LOGIN: Final = "docker login, or SKEP_REGISTRY_CONFIG on the node, has credentials for it"
_PUSH: Final = "skep runtime push, skep function push or docker push puts it there"
_AWAY: Final = "see it with: docker pull, on that node"
_PROGRAM: Final = "use an image that has it, or a runtime whose agent the image can run"
_NO_NETWORK: Final = "SKEP_DOCKER_NETWORK names the network for what asks for one"
_NOT_SHARED: Final = "keep --data where the engine's host has it too, under the same path"
#: (words of the engine, fault, code, sentence, hint); the first that fits is taken.
KNOWN: Final[tuple[tuple[str, Fault, str, str, str], ...]] = (
    ("no such image", Fault.FUNCTION, "image_unavailable",
     "the engine of this node has no image {image!r}", PULL),
    ("invalid reference format", Fault.FUNCTION, "image_unavailable",
     "{image!r} is no name of an image", "say it as for docker pull"),
    ("exec format error", Fault.FUNCTION, "image_unavailable",
     "the image {image!r} is for another architecture than this engine's", PULL),
    ("executable file not found", Fault.FUNCTION, "command_not_found",
     "the image {image!r} has no {program}, which its agent needs", _PROGRAM),
    ("unable to find user", Fault.FUNCTION, "image_unavailable",
     "the user of the image {image!r} does not exist in it", "mend its USER line"),
    ("unable to find group", Fault.FUNCTION, "image_unavailable",
     "the group of the image {image!r} does not exist in it", "mend its USER line"),
    ("no space left on device", Fault.NODE, "no_space",
     "the disk of the engine is full", "docker system df says what takes the space"),
    ("bind source path does not exist", Fault.NODE, "no_sandbox",
     "the engine does not see this worker's files", _NOT_SHARED),
    ("network", Fault.NODE, "no_sandbox",
     "the engine cannot connect a container: {said}", _NO_NETWORK),
)  # fmt: skip
#: What it says of a first process that cannot be executed.
NOT_RUN: Final = (
    "executable file not found", "permission denied", "no such file or directory",
    "is a directory",
)  # fmt: skip


#: The same for what an engine or a registry says while an image is pulled.
NOT_PULLED: Final[tuple[tuple[str, Fault, str, str], ...]] = (
    ("no space left on device", Fault.NODE, "the disk of the engine is full",
     "docker system df says what takes the space"),
    ("no matching manifest", Fault.FUNCTION, "it is not there for this engine's architecture",
     "build it for this architecture too"),
    ("unauthorized", Fault.NODE, "its registry refused this node's credentials, or has none",
     _LOGIN),
    ("authentication", Fault.NODE, "its registry refused this node's credentials, or has none",
     _LOGIN),
    ("no basic auth", Fault.NODE, "its registry asks for credentials", _LOGIN),
    ("denied", Fault.NODE, "its registry refused this node", _LOGIN),
    ("manifest unknown", Fault.FUNCTION, "its registry has no such image", _PUSH),
    ("name unknown", Fault.FUNCTION, "its registry has no such image", _PUSH),
    ("not found", Fault.FUNCTION, "its registry has no such image", _PUSH),
    ("invalid reference format", Fault.FUNCTION, "that is no name of an image",
     "say it as for docker pull"),
)  # fmt: skip


def not_pulled(said: str, image: str) -> tuple[NoSandbox, bool]:
    """Return why an image could not be pulled, and whether trying again may help."""
    low = said.lower()
    for words, fault, why, hint in NOT_PULLED:
        if words in low:
            text = f"the image {image!r} was not pulled: {why} ({said})"
            return NoSandbox(text, hint=hint, fault=fault, code="image_unavailable"), False
    text = f"the image {image!r} was not pulled: its registry does not answer ({said})"
    return NoSandbox(text, hint=_AWAY, code="image_unavailable"), True


def refused(said: str, image: str, program: str) -> NoSandbox:
    """Return why there is no sandbox, from what the engine said."""
    low = said.lower()
    for words, fault, code, sentence, hint in KNOWN:
        if words in low:
            message = sentence.format(image=image, program=program, said=said)
            return NoSandbox(message, hint=hint.format(image=image), fault=fault, code=code)
    return NoSandbox(f"the engine made no container: {said}")


def image_refused(said: str, image: str, program: str) -> NoSandbox:
    """Return why a call of an image function has no container."""
    low = said.lower()
    if "no command specified" in low:
        message = f"the image {image!r} says nothing to run, and neither do the params"
        hint = 'name the program first: ["echo", "hello"]'
    elif any(words in low for words in NOT_RUN):
        message = f"the image {image!r} cannot run {program or 'its command'!r}: {said}"
        hint = "without an ENTRYPOINT in the image the first argument is the program"
    else:
        return refused(said, image, program)
    return NoSandbox(message, hint=hint, fault=Fault.FUNCTION, code="command_not_found")


def ended(exit_code: int, printed: str, image: str, *, out_of: int | None) -> NoSandbox:
    """Return why there is no sandbox, from how its first process ended before it was ready.

    ``out_of`` is how much memory it had, in MiB, if the kernel killed it for that.
    """
    said = f": {printed}" if printed else ", and printed nothing"
    if "exec format error" in printed.lower():
        return refused(printed, image, "")
    if out_of is not None:
        message = f"the agent has no room in the function's memory of {out_of} MiB{said}"
        return NoSandbox(message, hint="raise memory", fault=Fault.FUNCTION, code="oom")
    message = f"the agent ended with status {exit_code} in the image {image!r}{said}"
    # A signal came from outside; whatever else it was, it would be so on every node.
    if exit_code in (0, 137, 143):
        return NoSandbox(message)
    # The engine starts a program whose interpreter is not there, and only then fails.
    is_missing = exit_code in (126, 127) or printed.startswith("exec ")
    code = "command_not_found" if is_missing else "image_unavailable"
    return NoSandbox(message, hint=_PROGRAM, fault=Fault.FUNCTION, code=code)


def not_serving(how: str, printed: str) -> NoSandbox:
    """Return why a server is none."""
    return NoSandbox(
        f"it is no server: {how}",
        hint="it has to listen on 127.0.0.1 or on all addresses, on the port that PORT says",
        fault=Fault.FUNCTION,
        code="not_serving",
        log=printed,
    )


def no_room(limit: int, printed: str) -> NoSandbox:
    """Return why a function cannot be loaded for which the kernel had to kill."""
    return NoSandbox(
        f"it reached its memory limit of {limit} MiB while it was loaded",
        hint="raise memory",
        fault=Fault.FUNCTION,
        code="oom",
        log=printed,
    )


def built_elsewhere(image: str) -> NoSandbox:
    """Return why a bundle that another image built is not used."""
    message = f"the dependencies were installed in another image than {image!r} is now"
    return NoSandbox(message, fault=Fault.NONE, code=STALE)


def baked_of_other(image: str) -> NoSandbox:
    """Return why an image that another function, or another state of it, is in is not used."""
    message = f"the image {image!r} is not what was baked of this function"
    return NoSandbox(message, fault=Fault.NONE, code=STALE_IMAGE)


def for_another_machine(image: str, has: str, needs: str) -> NoSandbox:
    """Return why an image of another architecture is no sandbox."""
    return NoSandbox(
        f"the image {image!r} is for {has}, and this engine runs {needs}",
        hint=f"build or pull it for {needs}",
        fault=Fault.FUNCTION,
        code="image_unavailable",
    )
