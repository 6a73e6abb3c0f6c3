"""Calls of NVML: each answers, or fails in one way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lmxd.devices.nvml.faults import FUNCTION_NOT_FOUND, GONE, NOT_SUPPORTED, UNKNOWN, NvmlFault


class Library:
    """The pynvml module, or something that behaves like it. Old and partial ones lack functions."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.is_open = False

    def open(self) -> None:
        """Open NVML, unless it is open: a call that nobody waited for may have done it. Raises NvmlFault."""
        if not self.is_open:
            self.require("nvmlInit")
            self.is_open = True

    def require(self, name: str, *arguments: Any, **more: Any) -> Any:
        """An answer. Raises NvmlFault."""
        function: Callable[..., Any] | None = getattr(self._nvml, name, None)
        if function is None:
            raise NvmlFault(FUNCTION_NOT_FOUND, f"there is no {name}")
        try:
            return function(*arguments, **more)
        except self._nvml.NVMLError as error:
            raise NvmlFault(getattr(error, "value", UNKNOWN), str(error)) from error
        except (AttributeError, TypeError) as error:  # an older pynvml, which knows less
            raise NvmlFault(FUNCTION_NOT_FOUND, f"{name}: {error}") from error
        except Exception as error:  # whatever it is, it is this call's
            raise NvmlFault(UNKNOWN, f"{name}: {error!r}") from error

    def ask(self, name: str, *arguments: Any) -> Any:
        """An answer that may be done without: else None. Raises NvmlFault only for a card that is gone."""
        try:
            return self.require(name, *arguments)
        except NvmlFault as fault:
            if fault.code in GONE:
                raise
            return None

    def text(self, name: str, *arguments: Any) -> str:
        """A text that may be done without."""
        found = self.ask(name, *arguments)
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found or "")

    def identity(self, handle: Any, index: int | str) -> str:
        """The UUID of a card; its index where cards have none. Raises NvmlFault."""
        try:
            return self.uuid(handle) or str(index)
        except NvmlFault as fault:
            if fault.code not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
                raise
            return str(index)

    def uuid(self, handle: Any) -> str:
        """The UUID of a card or a slice. Raises NvmlFault."""
        found = self.require("nvmlDeviceGetUUID", handle)
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found or "")

    def constant(self, name: str) -> Any:
        """A constant; None if this one does not know it."""
        return getattr(self._nvml, name, None)

    def close(self) -> None:
        """Close NVML. All handles become invalid, unless somebody else has opened it as well."""
        if self.is_open:
            self.is_open = False
            with suppress(NvmlFault):
                self.require("nvmlShutdown")
