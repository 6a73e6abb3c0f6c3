"""The clients' methods as source, from the table of methods.

tests/test_documents.py writes them with the other references. This file does it alone, and needs no client for it:
python tests/client_source.py helps when what it wrote does not import any more, because a message was renamed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from lmxd.rpc import messages
from lmxd.rpc.messages import Granted, Params
from lmxd.rpc.methods import METHODS, Method

ROOT: Final = Path(__file__).parent.parent
_WIDTH: Final = 120
_NAMED: Final = {value: name for name, value in vars(messages).items() if get_origin(value) is Literal}
"""Sets of words that have a name."""

_HEAD: Final = '''\
"""Written by tests/client_source.py from lmxd/rpc/methods.py. docs/rpc.md says what each parameter means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

{imports}


class {name}(ABC):
    """Every method of the daemon, for ``{client}``. Bytes are ``int`` bytes, times are seconds."""

    @abstractmethod
    {how}def _call(self, method: str, result: type[ResultT], /, **params: Any) -> ResultT: ...

    @abstractmethod
{grant}
'''
_GRANT: Final = "self, method: str, result: type[LeaseT], on_progress: OnProgress | None, /, **params: Any"


def blocking() -> str:
    return _source("BlockingCalls", "Client", "BlockingLease")


def asynchronous() -> str:
    return _source("AsyncCalls", "AsyncClient", "AsyncLease")


SOURCES: Final = {
    "lmxd/rpc/client/blocking_calls.py": blocking,
    "lmxd/rpc/client/asynchronous_calls.py": asynchronous,
}


def _source(name: str, client: str, lease: str) -> str:
    how = "async " if client == "AsyncClient" else ""
    whole = f"    {how}def _grant({_GRANT}) -> LeaseT: ..."
    grant = whole if len(whole) <= _WIDTH else f"    {how}def _grant(\n        {_GRANT}\n    ) -> LeaseT: ..."
    head = _HEAD.format(name=name, client=client, how=how, grant=grant, imports=_imports(lease))
    return head + "".join(_method(method, lease, how) for method in METHODS.values())


def _imports(lease: str) -> str:
    found = {"lmxd.rpc.client.leases": {lease}, "lmxd.rpc.client.wire": {"LeaseT", "OnProgress", "ResultT"}}
    for method in METHODS.values():
        if method.result is not Granted:
            found.setdefault(method.result.__module__, set()).add(method.result.__name__)
        for annotation in _annotations(method.params).values():
            found[messages.__name__] |= {_NAMED[part] for part in (annotation, *get_args(annotation)) if part in _NAMED}
    return "\n".join(_import(module, sorted(found[module])) for module in sorted(found))


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= _WIDTH else _wrapped(f"from {module} import (", names, ")", "")


def _method(method: Method, lease: str, how: str) -> str:
    """Required parameters may be given by position, the others by name alone."""
    fields, annotations = method.params.model_fields, _annotations(method.params)
    required = [name for name, field in fields.items() if field.is_required()]
    optional = [name for name in fields if name not in required]
    signature = ["self", *(f"{name}: {_type(annotations[name])}" for name in required)]
    signature += ["*"] if optional else []
    signature += [f"{name}: {_optional(annotations[name], fields[name].default)}" for name in optional]
    result = lease if method.result is Granted else method.result.__name__
    call, given = "_call", [f'"{method.name}"', result]
    if method.grants:
        signature.append("on_progress: OnProgress | None = None")
        call, given = "_grant", [*given, "on_progress"]
    given += [f"{name}={name}" for name in (*required, *optional)]
    admin = " Only administrators may call it." if method.admin else ""
    return f'''
{_wrapped(f"    {how}def {method.attribute}(", signature, f") -> {result}:", "    ")}
        """{method.sentence}{admin}"""
{_wrapped(f"        return {'await ' if how else ''}self.{call}(", given, ")", "        ")}
'''


def _annotations(params: type[Params]) -> Mapping[str, Any]:
    hints = get_type_hints(params)
    return {name: hints[name] for name in params.model_fields}


def _type(annotation: Any) -> str:
    if annotation in _NAMED:
        return _NAMED[annotation]
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_type, get_args(annotation)))
    if get_origin(annotation) in (list, dict):
        return f"{get_origin(annotation).__name__}[{', '.join(map(_type, get_args(annotation)))}]"
    if annotation is type(None):
        return "None"
    assert isinstance(annotation, type), f"{annotation}: give it a name in lmxd/rpc/messages.py"
    return annotation.__name__


def _optional(annotation: Any, default: object) -> str:
    """A list, whose default could be changed, is left to the daemon: None is not sent."""
    if default is None or isinstance(default, bool | int | float):
        return f"{_type(annotation)} = {default!r}"
    if isinstance(default, str):
        return f"{_type(annotation)} = {json.dumps(default)}"
    return f"{_type(annotation)} | None = None"


def _wrapped(begin: str, items: Sequence[str], end: str, indent: str) -> str:
    """On one line, or with a line for each item."""
    line = f"{begin}{', '.join(items)}{end}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join((begin, *(f"{indent}    {item}," for item in items), f"{indent}{end}"))


if __name__ == "__main__":
    for name, make in SOURCES.items():
        (ROOT / name).write_text(make())
