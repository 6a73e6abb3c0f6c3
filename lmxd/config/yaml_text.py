"""YAML within bounds, for files that somebody else may have written, and back."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from lmxd.text import shortened

LARGEST: Final = 512 * 2**10
"""Bytes of a file: some thousands of models. It takes about two seconds to read so many."""
_DEEPEST: Final = 50
"""Levels of nesting."""
_NODE: Final = 32
"""The weight of a node, in characters: its own are counted beside it."""
_HEAVIEST: Final = 50_000 * _NODE
"""The weight of all nodes, each counted as often as aliases refer to it."""
_LONGEST_NUMBER: Final = 64
"""Characters. Reading a number takes the square of its length."""
_LARGEST_KEY: Final = 2**60
"""From there on, different numbers have the same hash: many of them would be a slow table."""
_WIDTH: Final = 100
_LINE: Final = re.compile(r"(?:[^\r\n\x85\u2028\u2029]*(?:\r\n|[\r\n\x85\u2028\u2029])|[^\r\n\x85\u2028\u2029]+$)")
_MERGE: Final = "tag:yaml.org,2002:merge"


class BadYaml(Exception):
    """The text is not YAML, or asks for too much. It says where and why in one sentence."""


class _Loader(yaml.SafeLoader):
    """Bounds what a text comes to. A key given twice is an error instead of a silent override."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._weight = 0
        self._weights: dict[yaml.Node, int] = {}
        self._flat: set[yaml.Node] = set()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        before, alias = self._weight, self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth == _DEEPEST:
            raise yaml.MarkedYAMLError(problem="is nested too deeply", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if alias and node not in self._weights:
            raise yaml.MarkedYAMLError(problem="an alias refers to what it is in", problem_mark=mark)
        own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        self._weight += self._weights[node] if alias else _NODE + own
        if self._weight > _HEAVIEST:
            raise yaml.MarkedYAMLError(problem="comes to too much, its aliases filled in", problem_mark=mark)
        self._weights[node] = self._weight - before
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys merged by ``<<`` before a mapping's own: later ones win, and of a list its first mapping.

        Not PyYAML's, of which 6.0.4 lets the last one of a list win.
        """
        if node in self._flat:
            return
        self._flat.add(node)
        self._refuse_doubles(node)
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        sources = [source for key, value in node.value if key.tag == _MERGE for source in _sources(value)]
        for source in sources:
            self.flatten_mapping(source)
        node.value = [pair for source in reversed(sources) for pair in source.value] + own

    def _refuse_doubles(self, node: yaml.MappingNode) -> None:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if isinstance(key, int) and abs(key) >= _LARGEST_KEY:
                raise yaml.MarkedYAMLError(problem="a key is too large", problem_mark=key_node.start_mark)
            if isinstance(key, Hashable) and key in seen:
                shown = shortened(repr(key), 80)
                raise yaml.MarkedYAMLError(problem=f"the key {shown} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)


def _sources(node: yaml.Node) -> list[yaml.MappingNode]:
    """The mappings that a merge key names."""
    named: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    found = [source for source in named if isinstance(source, yaml.MappingNode)]
    if len(found) < len(named):
        raise yaml.MarkedYAMLError(
            problem="expected a mapping to merge, or a list of them", problem_mark=node.start_mark
        )
    return found


def _number(read: Any) -> Any:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(problem="a number is too long", problem_mark=node.start_mark)
        return read(loader, node)

    return construct


_Loader.add_constructor("tag:yaml.org,2002:int", _number(yaml.SafeLoader.construct_yaml_int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(yaml.SafeLoader.construct_yaml_float))


def load(text: str) -> Any:
    """The value of a text. BadYaml if it is none, or takes too much."""
    if len(text) > LARGEST:
        raise BadYaml(f"has more than {LARGEST >> 10} KiB")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise BadYaml(_problem(error)) from error
    except RecursionError as error:
        raise BadYaml("is nested too deeply") from error
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        said = shortened(str(error), 200)  # by PyYAML's readers of dates, numbers, bytes
        raise BadYaml(f"a value is not of its kind: {said}") from error


def lines(text: str) -> list[str]:
    """The lines of a text as YAML counts them, each with its end."""
    return _LINE.findall(text)


def line_of(text: str, key: str) -> int | None:
    """The line, from 0, on which a key of the outermost mapping is; None if it has none such. BadYaml."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadYaml("is no YAML") from error
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((int(name.start_mark.line) for name, _ in pairs if name.value == key), None)


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {shortened(str(error.problem or error.context), 200)}"
    return shortened(" ".join(str(error).split()), 200)


class _Dumper(yaml.SafeDumper):
    """A key a line; lists on one; each value where it stands rather than an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(list, _list)


def dump(value: object) -> str:
    """A value as lines of ASCII, each ended by a line feed. BadYaml if it could not be read back as the same."""
    try:
        text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=False)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadYaml(f"cannot be written as YAML: {type(error).__name__}") from error
    if not text.isascii() or load(text) != value:
        raise BadYaml("cannot be written as YAML")
    return text
