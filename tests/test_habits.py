"""The habits of these tests: none sleeps, none reaches for what is private. The source is read, not run."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sources import nodes, parse

TESTS = Path(__file__).parent
SLEEPERS = {
    "fake_llama_server.py",  # loads and answers as slowly as it is told to
    "fake_vllm.py",  # takes its time, as scripted
    "fake_open_engine.py",  # waits to be told to listen
    "wires.py",  # are late, as scripted
    "end_to_end/test_dashboard.py",  # for pictures of the documents alone
    "gateway/picture.py",
    "gpu/ballast.py",  # holds memory until it is ended
    "waiting.py",  # waits for conditions
}
INSIDERS = {
    "core/test_invariants.py": {"_order", "_groups", "_kinds", "_fronts", "_by_user"},  # breaks the queue on purpose
    "test_acl.py": {"_exit"},  # of the operating system
    "confinement/attempts.py": {"_exit"},  # of the operating system
    "fake_llama_server.py": {"_exit"},  # of the operating system
    "fake_vllm.py": {"_exit"},  # likewise
    "fake_many.py": {"_exit"},  # likewise
    "rpc/test_client.py": {"_leases", "_link", "_take"},
}
"""May only become less."""


def sources() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(TESTS))


def word(call: ast.Call) -> str:
    """The last part of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def sleeps(tree: Iterable[ast.AST]) -> list[int]:
    """The lines that let time pass; ``asyncio.sleep(0)`` only lets others run."""
    return [
        node.lineno
        for node in tree
        if isinstance(node, ast.Call)
        and word(node) in ("sleep", "wait_for_timeout")
        and ast.unparse(node.args[0]) != "0"
    ]


def reaches(tree: Iterable[ast.AST]) -> set[str]:
    """Private names of other objects: as attributes, as imports, or as words for setattr and its like."""
    found: set[str] = set()
    for node in tree:
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls", "super()"):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and word(node) in ("getattr", "setattr"):
            words = [x.value for x in node.args[:2] if isinstance(x, ast.Constant)]
            found |= {text.rpartition(".")[2] for text in words if isinstance(text, str)}
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def test_nothing_sleeps() -> None:
    """It waits for a condition (tests/waiting.py)."""
    found = {name(path): sleeps(nodes(path)) for path in sources()}
    assert {path: lines for path, lines in found.items() if bool(lines) != (path in SLEEPERS)} == {}


def test_what_is_private_is_left_alone() -> None:
    found = {name(path): reaches(nodes(path)) for path in sources()}
    assert {path: names for path, names in found.items() if names} == INSIDERS


def test_sources_are_parsed_where_nothing_is_collected_meanwhile() -> None:
    calls = {path: [n.func for n in nodes(path) if isinstance(n, ast.Call)] for path in sources()}
    assert [name(path) for path, called in calls.items() if "ast.parse" in map(ast.unparse, called)] == ["sources.py"]


def test_both_are_found() -> None:
    tree = parse(
        "from a import _b\nself._mine\nx._theirs\nself.x._other\nf()._made\nmonkeypatch.setattr('a.b._SOME', 1)\n"
        "time.sleep(1)\nawait asyncio.sleep(0)\n"
    )
    assert reaches([*ast.walk(tree)]) == {"_b", "_theirs", "_other", "_made", "_SOME"}
    assert sleeps([*ast.walk(tree)]) == [7]


def test_modules_of_tests_have_names_of_their_own() -> None:
    """Two that no package tells apart are one module: pytest imports the first, and refuses the other."""
    alone = [path.name for path in sources() if not (path.parent / "__init__.py").exists()]
    assert not [name for name, count in Counter(alone).items() if count > 1 and name.startswith("test_")]
