"""Signs in a server's log that it serves: an error before them is not why it ended.

A server that could not do one request answers with an error, logs it, and goes on. Hours later it may end for another
reason, and say none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_LOADED: Final = re.compile(r"(?:^|[\s:])Application startup complete\.$")
"""By uvicorn, which vLLM, SGLang and most others serve with, once all that they load is there."""
_ANSWERED: Final = re.compile(
    r'"(?P<method>[A-Z]{3,7}) /\S{0,1000} HTTP/[\d.]{1,3}" 2\d\d(?:[ "]|$)'
    r"|log_server_r: (?:done )?request: (?P<verb>[A-Z]{3,7}) /\S{0,1000} \S{0,100} 2\d\d$"
    r"|Avg generation throughput: (?!0\.0 )[\d.]{1,12} tokens/s"
    r"|text_generation_router[\w:]{0,40}: \S{1,100}: Success$",
    re.ASCII,
)
"""By uvicorn and others with lines like Apache's, by llama-server, by vLLM of the last 10 s, by TGI."""
_TROUBLE: Final = re.compile(r"Traceback|Error\b|Exception\b|\berror: ")
_OF_ANOTHER: Final = re.compile(r"^\((?!A[Pp][Ii]Server)\w[\w.-]* pid=\d+\) |EngineDeadError", re.ASCII)
"""Words of vLLM's other processes, or of their end. The one that answers may go on for a few seconds
without them: it begins an answer, and shows its figures."""
_ENOUGH: Final = 32
"""Answers without trouble in between, after which the others live, too. lmxd asks for an instance's figures about once
a second, and vLLM ends within 5 s of them."""


def last_part(log: Sequence[str]) -> list[str]:
    """The lines of a log that may say why its server ended: what came after it last did what it is for."""
    served = lived = 0
    answers = 0
    for number, line in enumerate(log, 1):
        if _LOADED.search(line):
            served = lived = number
        elif _TROUBLE.search(line):
            answers = 0
        elif (answered := _ANSWERED.search(line)) is not None:
            answers += 1
            if (answered["method"] or answered["verb"]) not in ("GET", "HEAD", "OPTIONS"):
                served = number
            if answers >= _ENOUGH:
                served = lived = number
    return [*(line for line in log[lived:served] if _OF_ANOTHER.search(line)), *log[served:]]
