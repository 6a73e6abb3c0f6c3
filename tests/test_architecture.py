"""Imports point down, and the core stays pure. The table is the rule; the source is read, and once run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import pytest
from sources import nodes, parsed

from lmxd.rpc.notifications import NOTIFICATIONS, Notification

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lmxd"

SEES: dict[str, set[str]] = {
    "errors": set(),
    "text": set(),
    "acts": {"errors", "throttle"},
    "tracebacks": {"text"},
    "throttle": set(),
    "pausing": set(),
    "plain_json": set(),
    "log_lines": {"text", "throttle", "tracebacks"},
    "folding": set(),
    "terminal": {"errors", "folding", "text", "tracebacks"},
    "completion": {"terminal"},
    "systemd": {"text"},
    "own_units": {"errors", "xdg"},
    "unix_http": set(),
    "files": set(),
    "acl": set(),
    "failpoints": set(),
    "xdg": {"errors"},
    "listening": {"errors", "rpc"},
    "failures": set(),
    "core": {"failures", "text"},
    "gguf": set(),
    "safetensors": set(),
    "cuda": set(),
    "vendor": set(),
    "estimate": {"cuda", "gguf", "errors", "files", "safetensors", "vendor"},
    "devices": {"text", "vendor"},
    "accounts": {"errors"},
    "confinement": set(),
    "engines": {
        "accounts",
        "confinement",
        "devices",
        "errors",
        "failures",
        "files",
        "estimate",
        "gguf",
        "safetensors",
        "text",
        "throttle",
        "vendor",
    },
    "instances": {"accounts", "failpoints", "files"},
    "store": {"errors", "failpoints"},
    "config": {"engines", "files", "gguf", "errors", "text", "xdg"},
    "rpc": {"errors", "plain_json", "xdg"},
    "gateway": {"rpc", "config", "errors", "listening", "pausing", "systemd", "terminal", "text", "acts", "plain_json"},
    "cli": {
        "completion",
        "rpc",
        "estimate",
        "gguf",
        "devices",
        "engines",
        "errors",
        "fleet",
        "folding",
        "gateway",
        "models",
        "safetensors",
        "terminal",
        "text",
        "unix_http",
        "xdg",
    },
    "fleet": {
        "acts",
        "config",
        "errors",
        "files",
        "gateway",
        "gguf",
        "listening",
        "own_units",
        "plain_json",
        "rpc",
        "systemd",
        "terminal",
        "text",
        "throttle",
        "pausing",
        "xdg",
    },
    "models": {"config", "errors", "files", "gguf", "text", "xdg"},
    "catalog": {
        "core",
        "config",
        "devices",
        "engines",
        "errors",
        "estimate",
        "gguf",
        "models",
        "safetensors",
        "text",
        "vendor",
    },
    "daemon": {
        "accounts",
        "confinement",
        "catalog",
        "core",
        "gguf",
        "estimate",
        "devices",
        "engines",
        "instances",
        "config",
        "rpc",
        "errors",
        "failures",
        "files",
        "acl",
        "failpoints",
        "listening",
        "store",
        "text",
        "acts",
        "pausing",
        "xdg",
    },
    "migrate": {"config", "engines", "errors", "files", "folding", "models", "terminal", "text"},
    "setup": {
        "catalog",
        "cli",
        "config",
        "daemon",
        "devices",
        "engines",
        "errors",
        "files",
        "folding",
        "gateway",
        "instances",
        "migrate",
        "models",
        "own_units",
        "rpc",
        "systemd",
        "terminal",
        "text",
        "unix_http",
        "xdg",
    },
    "__main__": {
        "confinement",
        "listening",
        "catalog",
        "completion",
        "daemon",
        "devices",
        "fleet",
        "gateway",
        "migrate",
        "setup",
        "config",
        "errors",
        "failpoints",
        "log_lines",
        "systemd",
        "terminal",
    },
}
"""Room -> the rooms it may import. ``cli`` reads model files itself: a client may not name a path to the daemon;
``setup`` has them read there."""

IN_CORE: dict[str, set[str]] = {
    "language": set(),
    "books": {"language"},
    "policy": {"language", "books"},
    "door": {"language", "books", "policy"},
}
"""The same inside of ``core``: the words that all rooms speak, what is remembered, what follows, and who asks."""
DOOR = {"admission", "invariants"}

IN_DAEMON: dict[str, set[str]] = {
    "ground": set(),
    "launching": {"ground"},
    "keeping": {"ground", "launching"},
    "learning": {"ground", "launching"},
    "answering": {"ground", "launching", "keeping", "learning"},
    "assembly": {"ground", "launching", "keeping", "learning", "answering"},
}
"""And inside of ``daemon``: what all of it reads, its rooms, and the loop that builds them."""
ASSEMBLY = {"assembly", "loop", "measuring"}

IN_GATEWAY: dict[str, set[str]] = {
    "http": set(),
    "leasing": {"http"},
    "requests": {"http", "leasing"},
    "answers": {"http", "leasing", "requests"},
    "serving": {"http", "leasing", "requests", "answers"},
    "ollama": {"http", "leasing", "requests", "answers", "serving"},
    "board": {"http", "leasing", "requests", "answers", "serving"},
    "building": {"http", "leasing", "requests", "answers", "serving", "ollama", "board"},
}
"""And inside of ``gateway``: from bytes and leases up to one request served, the routes, and what builds it."""
BUILDING = {"app", "commands", "guard", "process", "relaying"}

IN_FLEET: dict[str, set[str]] = {
    "ground": {"choosing", "authority"},
    "choosing": {"ground"},
    "authority": {"ground"},
    "copying": {"ground"},
    "finding": {"ground", "choosing"},
    "node": {"ground", "authority", "choosing", "copying"},
    "gateway": {"ground", "choosing", "finding"},
    "outermost": {"ground", "authority", "choosing", "finding", "node", "gateway"},
}
"""And inside of ``fleet``: a gateway and a program find nodes in the same way, and neither knows the other."""
OUTERMOST = {"client", "commands"}

INSIDE = {"core": IN_CORE, "daemon": IN_DAEMON, "gateway": IN_GATEWAY, "fleet": IN_FLEET}

IMPURE = {
    "asyncio",
    "time",
    "os",
    "random",
    "uuid",
    "logging",
    "pydantic",
    "socket",
    "subprocess",
    "threading",
    "pathlib",
}
PURE = {"core", "gguf", "safetensors"}
CHOOSING = PACKAGE / "fleet/choosing"
"""Pure as well: which node is asked follows from what was heard, and from a number that is passed in."""
SHOWS_COMMANDS = {"cli", "completion"}
"""Rooms where a ``command`` is one of click's."""
MAX_LINES = 300


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def found_in(each: Mapping[str, Collection[object]]) -> dict[str, Collection[object]]:
    """The modules of which something was found, and that."""
    return {path: found for path, found in each.items() if found}


def room(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def test_imports_point_down() -> None:
    up = {}
    for path in modules():
        if (mine := room(path)) != "__init__":
            rooms = {name.split(".")[1] for name in imports(path) if name.startswith("lmxd.")}
            up[name(path)] = rooms - {"__version__", mine} - SEES[mine]
    assert found_in(up) == {}, "rooms that they may not import"


def test_the_core_is_pure() -> None:
    pure = [path for path in modules() if room(path) in PURE or CHOOSING in path.parents]
    assert len(pure) > 50
    assert found_in({name(path): {x.split(".")[0] for x in imports(path)} & IMPURE for path in pure}) == {}


def inner_room(name: str) -> str:
    """Of a module's name after ``lmxd.``: the room inside of its room."""
    outer, first = name.split(".")[:2]
    if outer == "core":
        return first if first in IN_CORE else "door" if first in DOOR else "language"
    if outer == "gateway":
        return first if first in IN_GATEWAY else "building" if first in BUILDING else "serving"
    if outer == "fleet":
        return first if first in IN_FLEET else "outermost" if first in OUTERMOST else "ground"
    return first if first in IN_DAEMON else "assembly" if first in ASSEMBLY else "ground"


def test_imports_point_down_inside_of_a_room() -> None:
    up = {}
    for path in [path for path in modules() if room(path) in INSIDE]:
        outer = room(path)
        mine = inner_room(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
        seen = {inner_room(x.removeprefix("lmxd.")) for x in imports(path) if x.startswith(f"lmxd.{outer}.")}
        up[name(path)] = seen - {mine} - INSIDE[outer][mine]
    assert found_in(up) == {}


def test_every_room_is_in_the_table() -> None:
    assert {room(p) for p in modules()} - {"__init__"} == set(SEES)


def test_no_module_outgrows_one_noun() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in modules()}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_no_function_outgrows_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": lines
        for path in modules()
        for node in nodes(path)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.body[0].lineno + 1) > 45
    }
    assert not long


_CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}
_OF_THE_CORE = re.compile(r"(^|\.)_?state\.\w")


def writes(path: Path) -> list[str]:
    """Where a module assigns to something of a ``state``, or has it changed in place."""
    found = []
    for node in nodes(path):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            targets = [node.func.value]
        found += [words for target in targets if _OF_THE_CORE.search(words := ast.unparse(target))]
    return found


def test_nothing_outside_the_core_changes_its_state() -> None:
    assert found_in({name(path): writes(path) for path in modules() if room(path) != "core"}) == {}


def test_writes_are_found(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        "state.touched.clear()\nself.admission.state.head = 1\ndel state.a[1]\nplace = where.state / 'a'\n"
    )
    assert sorted(writes(source)) == ["self.admission.state.head", "state.a[1]", "state.touched"]


def reads_of_a_command(path: Path) -> list[str]:
    """Where a module reads an attribute ``command``; a method of that name is called, not read."""
    called = {id(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    reads = [node for node in nodes(path) if isinstance(node, ast.Attribute) and node.attr == "command"]
    return [ast.unparse(node) for node in reads if id(node) not in called]


def test_whether_a_profile_has_a_command_is_asked_in_one_place() -> None:
    """All else asks for the kind of engine, or has it do what differs."""
    found = {
        str(path.relative_to(PACKAGE)): reads_of_a_command(path)
        for path in modules()
        if room(path) not in SHOWS_COMMANDS
    }
    assert {path: reads for path, reads in found.items() if reads} == {
        "catalog/catalog.py": ["profile.command"],
        "catalog/declared.py": ["self.command", "self.command"],
        "catalog/resolved.py": ["self.sizing.command"] * 2,
        "config/kinds.py": ["profile.command"],
        "config/profile.py": ["self.command"],
        "engines/command.py": ["plan.command"] * 2,
    }


def edges() -> dict[str, set[str]]:
    """Module -> the modules of lmxd that it imports, also for its types alone."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules()}
    return {name: {x for x in imports(path) if x in names} - {name} for name, path in names.items()}


def on_a_circle(graph: dict[str, set[str]]) -> set[str]:
    """Those from which a way leads back to themselves."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            new = graph[ahead.pop()] - found
            found |= new
            ahead += new
        return found

    return {name for name in graph if name in reached(name)}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert on_a_circle(edges()) == set()


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert on_a_circle(graph) == {"a", "b", "c"}


def test_only_the_entry_imports_the_assembly() -> None:
    found = {name(p): [x for x in imports(p) if x.startswith("lmxd.daemon.assembly")] for p in modules()}
    assert list(found_in(found)) == ["__main__.py"]


def named_types(path: Path) -> list[str]:
    """The public classes, type aliases, NewTypes and annotated types of a module."""
    found = []
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found += [node.target.id] if ast.unparse(node.annotation) == "TypeAlias" else []
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            made = ast.unparse(node.value).split("[")[0].split("(")[0]
            found += [node.targets[0].id] if made in ("NewType", "Annotated", "Callable", "Literal") else []
    return [name for name in found if not name.startswith("_")]


def test_a_type_name_means_one_thing() -> None:
    names = [name for path in modules() for name in named_types(path)]
    assert {name for name in names if names.count(name) > 1} == set()


def test_a_module_has_no_name_of_a_letter_or_two() -> None:
    """Whoever reads a line should not have to look up at the imports."""
    aliases = {
        name(path): [
            alias.asname
            for node in nodes(path)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
            if alias.asname is not None and len(alias.asname) < 3
        ]
        for path in modules()
    }
    assert found_in(aliases) == {}


@pytest.mark.parametrize("word", ["lmxd", "tests", "bench", "contrib"])
def test_no_method_is_called_by_its_name(word: str) -> None:
    """A client has them all, with their types."""
    sources = [path for path in (ROOT / word).rglob("*.py") if PACKAGE / "rpc" not in path.parents]
    assert [path for path in sources if re.search(r"\._?call\(\s*[\"']", path.read_text())] == []


def test_a_notification_is_named_in_one_place() -> None:
    names = "|".join(re.escape(name) for name in Notification)
    found = [path for path in modules() if re.search(rf"[\"']({names})[\"']", path.read_text())]
    assert found == [PACKAGE / "rpc/notifications.py"]
    assert list(NOTIFICATIONS) == list(Notification)
    assert all((notice.__doc__ or "").startswith(f"``{name}``") for name, notice in NOTIFICATIONS.items())


def test_a_code_is_named_in_one_place() -> None:
    """A refusal, a failure and a diagnosis take theirs from the list."""
    found = [path for path in modules() if re.search(r"\bcode=[\"']|\bend_lease\(.*[\"']\w+[\"']", path.read_text())]
    assert found == []


def test_commands_begin_without_a_web_server() -> None:
    """Its import is half of the time that ``lmxd check-config`` takes."""
    command = [sys.executable, "-c", "import lmxd.__main__, sys; print('aiohttp' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"
