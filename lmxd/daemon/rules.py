"""The configuration's admission rules in the core's terms."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable

from lmxd.config.keys import Keys
from lmxd.config.quotas import GroupConfig, KeyConfig, UserConfig
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.core.rules import Policy, Quota
from lmxd.core.words import User
from lmxd.errors import LmxdError

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
        waited_elsewhere=own.waited_elsewhere,
        default=_quota(config.users.get(DEFAULT, UserConfig())),
        group_quotas={gid: _quota(group) for name, group in config.groups.items() if (gid := gid_of(name)) is not None},
        quotas={uid: _quota(user) for name, user in config.users.items() if (uid := uid_of(name)) is not None},
        key_quotas={name: _quota(key) for name, key in config.keys.items()},
        default_key=_quota(config.keys.get(DEFAULT, KeyConfig())),
    )


def unknown_users(config: Config) -> list[str]:
    """Warnings for names that are nobody's here."""
    users = [name for name in config.users if name != DEFAULT and uid_of(name) is None]
    groups = [name for name in config.groups if gid_of(name) is None]
    found = [f"users.{name}: there is no user of that name" for name in users]
    return found + [f"groups.{name}: there is no group of that name" for name in groups]


def unknown_keys(config: Config) -> list[str]:
    """Warnings for names of keys that nobody has. It reads the file of keys: not for the loop's thread."""
    named, path = [name for name in config.keys if name != DEFAULT], config.gateway.keys_file
    if not named:
        return []
    if path is None:
        return [f"keys.{name}: there are no keys, for gateway.keys_file is not set" for name in named]
    try:
        known = Keys(path).names
    except LmxdError as error:
        return [f"keys: whether there are such keys cannot be seen: {error.message}"]
    return [f"keys.{name}: there is no key of that name in {path}" for name in named if name not in known]


def max_priority(config: Config, user: User) -> int:
    """The highest class that a user may ask for: that of its key, if it has one, else that of its uid."""
    uid, name = user
    key = (config.keys.get(name) or config.keys.get(DEFAULT)) if name else None
    if key is not None and key.max_priority is not None:
        return key.max_priority
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


def _quota(user: UserConfig | GroupConfig | KeyConfig) -> Quota:
    return Quota(
        weight=1.0 if isinstance(user, GroupConfig) else user.weight,
        max_bytes=None if user.max_memory_gb is None else int(user.max_memory_gb * GIB),
        max_leases=user.max_leases,
        max_holds=user.max_holds if isinstance(user, UserConfig) else None,
        max_waiting=user.max_waiting,
    )
