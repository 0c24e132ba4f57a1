"""YAML as people mean it: plain values by the rules of YAML 1.2, numbers that remember how they were written.

PyYAML reads YAML 1.1, where ``off`` and ``no`` are false, ``12:30`` is 750, ``1e-3`` is a text, ``2026-01-31`` a date,
a key given twice silently keeps its last value, and ``24.10`` cannot be told from 24.1. Here there are texts, numbers,
booleans, null, lists and mappings of these, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["as_text", "dump_yaml", "is_plain", "parse_yaml", "plain"]

_PREFIX = "tag:yaml.org,2002:"
_MOST_VALUES = 100_000
_LONGEST_NUMBER = 1000
# The core schema of YAML 1.2 (section 10.3.2), and underscores between the digits of a number, which studies have
_RESOLVERS = (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", re.compile(r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+"), list("-+0123456789")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
                         r"|\.(nan|NaN|NAN)"), list("-+.0123456789")),
    ("merge", re.compile(r"<<"), ["<"]),
)  # fmt: skip


class _Written:
    """Of a number: the text that it was written as."""

    text = ""


class _Int(_Written, int):
    pass


class _Float(_Written, float):
    pass


class _Loader(yaml.SafeLoader):
    """Reads the core schema of YAML 1.2 and refuses other tags and keys that are given twice."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - PyYAML's own way
    yaml_constructors: dict = {}  # noqa: RUF012

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flat: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Before the keys that `<<` brings, which may be overridden: look at those that stand here."""
        known: set[Hashable] = set()
        written = node.value if node not in self._flat else []  # a mapping with an anchor comes here again, flattened
        self._flat.add(node)
        for key, _ in written:
            name = key.value if isinstance(key, yaml.ScalarNode) and key.value != "<<" else None
            if name is not None and name in known:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
            known.add(name)
        super().flatten_mapping(node)

    def construct_written(self, node: yaml.ScalarNode) -> _Int | _Float:
        """A number, with its text."""
        text = node.value
        if len(text) > _LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, f"a number of {len(text)} digits", node.start_mark)
        bare = text.replace("_", "").lower()
        if node.tag.endswith("float"):
            value: Any = _Float(bare.replace(".inf", "inf").replace(".nan", "nan"))
        else:
            value = _Int(bare, {"0o": 8, "0x": 16}.get(bare[:2], 10))
        value.text = text
        return value

    def refuse(self, node: yaml.Node) -> None:
        """Any other tag: bytes, sets, dates, objects."""
        tag = node.tag.replace(_PREFIX, "!!")
        raise yaml.constructor.ConstructorError(
            None, None, f"{tag} is not known here: there are texts, numbers, booleans, null, lists and mappings",
            node.start_mark,
        )  # fmt: skip


for _name, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(f"(?:{_pattern.pattern})\\Z"), _first)
for _name in ("null", "bool", "str", "seq", "map"):
    _Loader.add_constructor(_PREFIX + _name, yaml.SafeLoader.yaml_constructors[_PREFIX + _name])
for _name in ("int", "float"):
    _Loader.add_constructor(_PREFIX + _name, _Loader.construct_written)
_Loader.add_constructor(None, _Loader.refuse)


def _count(node: yaml.Node, around: set[int], known: dict[int, int]) -> int:
    """The values that a node stands for, with those behind aliases; `around` are the nodes that it stands in.

    Ten lines of aliases of aliases stand for more values than fit into any memory.
    """
    if id(node) in around:
        raise yaml.constructor.ConstructorError(None, None, "an alias of what it stands in itself", node.start_mark)
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_count(part, around | {id(node)}, known) for part in parts)
        if known[id(node)] > _MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MOST_VALUES} values", node.start_mark)
    return known[id(node)]


class _Dumper(yaml.SafeDumper):
    """Quotes also the texts that only YAML 1.2 takes for numbers."""


_Dumper.add_implicit_resolver(_PREFIX + "float", _RESOLVERS[3][1], _RESOLVERS[3][2])
_Dumper.add_implicit_resolver(_PREFIX + "int", _RESOLVERS[2][1], _RESOLVERS[2][2])


def parse_yaml(text: str) -> Any:
    """The value that a text holds; its numbers are `int` and `float` that `as_text` gives back as they were written.

    >>> parse_yaml("{a: off, b: 1e-3, c: [24.10, 0o17]}")
    {'a': 'off', 'b': 0.001, 'c': [24.1, 15]}
    >>> as_text(parse_yaml("24.10"))
    '24.10'

    Raises
    ------
    yaml.YAMLError, ValueError, RecursionError
        If it is not YAML, or holds what is no plain value.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, set(), {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that every reader, of version 1.1 or 1.2, understands alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def as_text(value: Any) -> Any:
    """For a place that takes text: a number as it was written; also those in a list, and the keys of a mapping."""
    if isinstance(value, list | tuple):
        return [as_text(inner) for inner in value]
    if isinstance(value, dict):
        return {as_text(key): inner for key, inner in value.items()}
    if isinstance(value, _Written):
        return value.text
    return str(value) if type(value) is int else value


def plain(value: Any) -> Any:
    """The value with ordinary numbers."""
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, _Int):
        return int(value)
    return float(value) if isinstance(value, _Float) else value


def is_plain(value: Any) -> bool:
    """Whether a value is what JSON has: null, a boolean, a finite number, a text, a list or mapping of these.

    >>> is_plain({"a": [1, None]}), is_plain(b"x"), is_plain(float("inf")), is_plain({1: 2})
    (True, False, False, False)
    """
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    finite = type(value) is float and abs(value) < float("inf")
    return value is None or type(value) in (bool, int, str) or finite
