"""Errors with stable codes. Shell scripts see each code as an exit status of sysexits(3)."""

from __future__ import annotations

from typing import Any, Final

EX_OK: Final = 0
EX_USAGE: Final = 64
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_TEMPFAIL: Final = 75
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78

EXIT_STATUS: Final[dict[str, int]] = {
    # what the client did wrong
    "invalid_request": EX_USAGE,
    "invalid_params": EX_USAGE,
    "unknown_method": EX_USAGE,
    "unknown_model": EX_USAGE,
    "unknown_lease": EX_USAGE,
    "unknown_ticket": EX_USAGE,
    "unknown_instance": EX_USAGE,
    "unknown_id": EX_USAGE,
    "lease_ended": EX_USAGE,
    "bad_model_file": EX_USAGE,
    # who may not
    "not_permitted": EX_NOPERM,
    # no capacity
    "never_fits": EX_TEMPFAIL,
    "no_capacity": EX_TEMPFAIL,
    "queue_full": EX_TEMPFAIL,
    "wait_expired": EX_TEMPFAIL,
    "too_many": EX_TEMPFAIL,
    "over_quota": EX_TEMPFAIL,
    "ledger_unwritable": EX_TEMPFAIL,
    "too_many_waiting": EX_TEMPFAIL,
    "deadline": EX_TEMPFAIL,
    "draining": EX_TEMPFAIL,
    "stopped": EX_TEMPFAIL,
    "cancelled": EX_TEMPFAIL,
    "client_left": EX_TEMPFAIL,
    # the daemon or what it starts
    "daemon_unavailable": EX_UNAVAILABLE,
    "launch_failed": EX_SOFTWARE,
    "bad_answer": EX_SOFTWARE,
    "internal": EX_SOFTWARE,
    # the configuration
    "config": EX_CONFIG,
    "model_file_missing": EX_CONFIG,
    "model_file_forbidden": EX_CONFIG,
    "engine_missing": EX_CONFIG,
}
"""Every code there is. Codes are never reused for something else."""


def known(code: object) -> str:
    """A code that another program said; ``internal`` for one that there is not."""
    return code if isinstance(code, str) and code in EXIT_STATUS else "internal"


class LmxdError(Exception):
    """An error that a person can act on: a stable ``code``, a sentence, a remedy, and figures in ``data``."""

    def __init__(self, code: str, message: str, remedy: str = "", data: dict[str, Any] | None = None) -> None:
        assert code in EXIT_STATUS, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.data = data or {}

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.code]

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class ConfigError(LmxdError):
    """The configuration cannot be used. ``problems`` names each key, its value and what to do."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("config", f"{source}: " + "; ".join(problems))
        self.problems = problems
