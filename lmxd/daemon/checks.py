"""Checks of a configuration against this machine, without starting anything: all that is not there is said."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lmxd.accounts import account_groups, engine_account
from lmxd.catalog.catalog import Catalog
from lmxd.catalog.gpu_support import usable_here
from lmxd.catalog.model_files import parts
from lmxd.catalog.served import with_served
from lmxd.config.gateway import GatewayConfig
from lmxd.config.key_files import exposures
from lmxd.config.schema import Config
from lmxd.daemon.rules import unknown_keys, unknown_users
from lmxd.devices.diagnostics import diagnostics
from lmxd.engines.kinds import server
from lmxd.engines.llama_cpp.binary import Binary
from lmxd.errors import LmxdError
from lmxd.files import let_in, obstacle
from lmxd.listening.certificate import Certificate

_NAMED: Final = 5
"""Flags that one sentence names."""
SERVICE: Final = "lmxd"
"""The user that the system's service runs as."""


@dataclass(slots=True)
class Findings:
    """The findings about a configuration. With an error, lmxd does not start or a model never does."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    models: int = 0
    engines: dict[str, str] = field(default_factory=dict)
    """Path and version of each engine that is there."""


def check(config: Config, nvml: Any, *, alone: bool) -> Findings:
    """Look for everything that a configuration names. ``alone``: it is for a daemon of this user's alone."""
    found = Findings()
    whole, unread = with_served(config)
    found.models = len(whole.models)
    usable, measured = usable_here(config, nvml)
    catalog = Catalog(whole, os.geteuid() if alone and os.geteuid() != 0 else None)
    catalog.see(measured, usable)
    found.warnings += [*config.warnings, *diagnostics(measured), *catalog.warnings_of_engines(), *unread]
    found.warnings += [*unknown_users(config), *unknown_keys(config)]
    found.errors += _account_errors(config, alone=alone)
    found.errors += dict.fromkeys(_engine_errors(catalog, found))  # of one path, once
    found.warnings += catalog.warnings(tuple(catalog.default.usable.gpus))
    if not alone and os.geteuid() == 0:
        found.warnings += _hidden_from_service(catalog)
    found.warnings += _gateway_warnings(config.gateway)
    found.warnings += _directory_warnings(config)
    return found


def _gateway_warnings(config: GatewayConfig) -> Iterator[str]:
    """The files of the gateway that keep it from starting, or that others can get at."""
    yield from exposures(config)
    keys = config.keys_file
    if config.listen is not None and keys is not None and not keys.expanduser().exists():
        yield f"gateway.keys_file {keys}: is not there, so that nobody is let in; lmxd key NAME makes it"
    if config.tls_cert is not None:
        try:
            Certificate(config.tls_cert, config.tls_key)
        except LmxdError as error:
            yield str(error)


def _directory_warnings(config: Config) -> Iterator[str]:
    """The directories for models that are named, and are none."""
    own = [("model_dir", config.model_dir)] if "model_dir" in config.model_fields_set else []
    for key, path in (*own, *(("model_dirs", path) for path in config.model_dirs)):
        if obstacle(path.expanduser()) is None and not path.expanduser().is_dir():
            yield f"{key}: {path} is no directory (make it, or name another)"


def _account_errors(config: Config, *, alone: bool) -> Iterator[str]:
    try:
        engine_account(config.engine.user, shared=not alone)
    except LmxdError as error:
        yield str(error)


def _engine_errors(catalog: Catalog, found: Findings) -> Iterator[str]:
    """The programs that are named, and are not there. One that is only looked for is a warning's matter."""
    programs = {name: catalog.resolve(name).sizing.program() for name in catalog.config.models}
    looked_for = {profile.engine_name for profile in catalog.config.models.values()}
    for name, engine in catalog.engines.items():
        settings = engine.settings
        if settings.path is None and name not in looked_for:
            continue
        try:
            binary = server(settings.kind, settings.path, settings.environment, None, settings.key).binary()
            found.engines[name] = binary.name
            if isinstance(binary, Binary):
                found.warnings += _strange(binary)
                yield from _lacking(catalog, name, binary)
        except LmxdError as error:
            if settings.path is not None:
                yield catalog.missing(name, error)
            elif (sentence := catalog.missing(name, error)) not in found.warnings:
                found.warnings.append(sentence)
    for name, program in programs.items():
        if program is not None and not (program.is_file() and os.access(program, os.X_OK)):
            yield f"models.{name}.command: {program} is not an executable file"


def _strange(binary: Binary) -> Iterator[str]:
    """A warning of a build that has flags which nobody looked at."""
    if strange := binary.strange:
        named = f"{', '.join(strange[:_NAMED])}{' …' if len(strange) > _NAMED else ''}"
        yield (
            f"llama-server {binary.name} is newer than the builds that are known, for it has {named}: its estimates"
            " are checked by its own dry run"
        )


def _lacking(catalog: Catalog, engine: str, binary: Binary) -> Iterator[str]:
    """An error for each flag of a profile that its engine's build does not have: it would end at once."""
    for name, profile in catalog.config.models.items():
        if profile.engine_name != engine:
            continue
        try:
            resolved = catalog.resolve(name)
            words = resolved.sizing.flags(resolved.launch)
        except LmxdError:
            continue  # a file that is missing is among the warnings
        for flag in binary.lacking(words):
            where = f"models.{name}{'.engine_flags' if flag in profile.engine_flags else ''}"
            yield (
                f"{where}: llama-server {binary.name} has no {flag}: take it out, or name a build that has"
                f" it ({binary.key})"
            )


def _hidden_from_service(catalog: Catalog) -> Iterator[str]:
    """A warning for each model file that the service's user cannot read, though root can."""
    files: dict[str, Path] = {}
    for name in catalog.config.models:
        try:
            if (path := catalog.file(name)) is not None:
                files[name] = path
        except LmxdError:
            continue  # it is among the warnings
    try:
        account = pwd.getpwnam(SERVICE)
    except KeyError:
        return
    wanted = list(dict.fromkeys(part for path in files.values() for part in parts(path)))
    hidden = obstacles_of(account, wanted)
    for name, path in files.items():
        for part in parts(path):
            if (what := hidden.get(part)) is not None:
                yield f"models.{name}: {part} is shut for user {SERVICE}: {let_in(SERVICE, part, what)}"
                break


def obstacles_of(account: pwd.struct_passwd, paths: Iterable[Path]) -> dict[Path, Path]:
    """The files that a user cannot read -> what bars the way. Asked of the kernel, by a process of that user's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(account_groups(account))
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            found = {str(path): str(what) for path in paths if (what := obstacle(path)) is not None}
            with open(writing, "w") as pipe:
                pipe.write(json.dumps(found))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return {Path(path): Path(what) for path, what in json.loads(said or "{}").items()}
