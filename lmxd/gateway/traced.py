"""The prompt of one request, read and traced once: it is compared with those that lie in slots before and after its
lease is there."""

from __future__ import annotations

from functools import cached_property

from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.traces import Trace, trace
from lmxd.gateway.requests.prompts import Prompt, prompt_of


class TracedPrompt:
    """The prompt of a call that an engine is sent. ``seen``: its trace, if that is known already."""

    def __init__(self, call: UpstreamCall, seen: Trace | None = None) -> None:
        self.call = call
        self._seen = seen

    @cached_property
    def prompt(self) -> Prompt | None:
        """None for a call of which the slot may not be chosen."""
        return prompt_of(self.call)

    @cached_property
    def trace(self) -> Trace | None:
        """None where there is no prompt."""
        if self._seen is not None or self.prompt is None:
            return self._seen
        return trace(self.prompt.text)
