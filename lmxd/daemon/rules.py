"""The configuration's admission rules in the core's terms."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable

from lmxd.config.schema import Config, GroupConfig, UserConfig
from lmxd.config.section import GIB
from lmxd.core.rules import Policy, Quota

DEFAULT = "default"


def policy_of(config: Config) -> Policy:
    own = config.admission_control
    return Policy(
        queue_depth=own.queue_depth,
        enforce=own.enabled,
        aging=own.aging,
        fairness=own.fairness,
        half_life=own.half_life,
        quantum_loads=own.quantum_loads,
        preempt=own.preempt,
        grace=own.grace,
        cut=own.cut_generations,
        default=_quota(config.users.get(DEFAULT, UserConfig())),
        group_quotas={gid: _quota(group) for name, group in config.groups.items() if (gid := gid_of(name)) is not None},
        quotas={uid: _quota(user) for name, user in config.users.items() if (uid := uid_of(name)) is not None},
    )


def unknown_users(config: Config) -> list[str]:
    """Warnings for names that are nobody's here."""
    users = [name for name in config.users if name != DEFAULT and uid_of(name) is None]
    groups = [name for name in config.groups if gid_of(name) is None]
    found = [f"users.{name}: there is no user of that name" for name in users]
    return found + [f"groups.{name}: there is no group of that name" for name in groups]


def max_priority(config: Config, uid: int) -> int:
    """The highest class that a user may ask for."""
    mine = [user for name, user in config.users.items() if uid_of(name) == uid]
    return (mine or [config.users.get(DEFAULT, UserConfig())])[0].max_priority


def uid_of(name: str) -> int | None:
    return _number(name, lambda: pwd.getpwnam(name).pw_uid)


def gid_of(name: str) -> int | None:
    return _number(name, lambda: grp.getgrnam(name).gr_gid)


def _number(name: str, look_up: Callable[[], int]) -> int | None:
    """The number of a user or a group given by name or number; None if there is none of that name."""
    if re.fullmatch("[0-9]{1,10}", name):
        return int(name)
    try:
        return look_up()
    except (KeyError, ValueError):  # there is none, or it is no name at all
        return None


def _quota(user: UserConfig | GroupConfig) -> Quota:
    return Quota(
        weight=user.weight if isinstance(user, UserConfig) else 1.0,
        max_bytes=None if user.max_memory_gb is None else int(user.max_memory_gb * GIB),
        max_leases=user.max_leases,
        max_holds=user.max_holds if isinstance(user, UserConfig) else None,
        max_waiting=user.max_waiting,
    )
