"""Which limit or fault each reason of a call stands for, and what can be done about it."""

from __future__ import annotations

from typing import Final

#: Code of a reason -> plain words; ``{name}`` is the function.
_ADVICE: Final = {
    "raised": "The function's own code raised an exception; the logs have the traceback.",
    "exit_code": "The function's process ended with a status other than 0; see its logs.",
    "signal": "The function's process was killed by a signal, or crashed; see its logs.",
    "result_too_large": "It met the limit of a result, 6 MiB: store what is large elsewhere "
    "and return where it is.",
    "image_unavailable": "The image is neither on the node's engine nor to be had from a "
    "registry: check its name; make it (skep runtime build), or push it to where its name says "
    "(skep runtime push).",
    "command_not_found": "The program of its run command is not there: check run of the "
    "function and the runtime, and the package's executable bits.",
    "http_status": "The server answered, with a status that is none of 200 to 299; the reason "
    "has what it said, the logs what it printed.",
    "no_answer": "The server ended the connection, or said what is no HTTP; see its logs.",
    "not_serving": "Its server did not start: it has to listen on the port that the variable "
    "PORT says, on all addresses or 127.0.0.1; the logs have what it printed.",
    "install_failed": "Its dependencies could not be installed; the installer's last lines "
    "are in the reason. Mend them and register it again.",
    "no_sandbox": "No node could make a sandbox, three times: skep worker list, skep doctor.",
    "no_space": "It met the end of a node's disk: free some, then call again.",
    "entry_not_found": "What entry names could not be loaded; the logs have the traceback. If "
    "it is elsewhere: skep function update {name} --entry MODULE.FUNCTION. A module that is "
    "not found belongs into requirements.txt.",
    "protocol_violation": "The sandbox said what no agent says and was killed: does the "
    "function write to descriptors that are not its own?",
    "never_started": "It met maxWait: no place came free in time. More workers or slots, or "
    "skep function update {name} --max-wait SECONDS.",
    "timeout": "It met its timeout. If it needs longer: skep function update {name} --timeout "
    "SECONDS (300 at most).",
    "oom": "It met its memory limit. If it needs more: skep function update {name} --memory "
    "MIB.",
    "node_silent": "Its node does not answer. The call may still be running there; it ends "
    "when the node answers, or LOST when its time is over.",
    "node_lost": "Its node died while it may have been running, and it may not run twice. If "
    "it may: skep function update {name} --idempotent.",
    "sandbox_lost": "Its sandbox died while it ran, and it may not run twice. If it may: skep "
    "function update {name} --idempotent.",
    "interrupted": "skep was stopped while it was unfinished; --unfinished says what becomes "
    "of such calls.",
    "params_lost": "The store lost its record while it waited: skep db check.",
    "cancelled": "Somebody cancelled it.",
    "unconfirmed": "It was cancelled, and its node did not say in time that it had ended.",
}


def advice(code: str, function: str) -> str:
    """Return plain words on a reason; empty for one that is not known here."""
    return _ADVICE.get(code, "").format(name=function)
