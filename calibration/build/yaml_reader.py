"""The one reader of YAML: a small part of the language, which is all that a configuration needs.

Refused are anchors and aliases (a few lines of them grow to gigabytes), tags, keys that come twice or are no words, and
numbers that are not finite. Words that YAML 1.1 takes for dates stay text.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import yaml

from ...runtime.errors import CfcamError
from ...runtime.shown import shown

__all__ = ["parse_yaml"]

#: Characters of a configuration, and lists and sections inside each other.
_MOST_CHARACTERS = 2**20
_MOST_LEVELS = 20
#: As in JSON: more digits are beyond a float.
_MOST_DIGITS = 308
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_KNOWN = (*_NUMBERS, "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")


def parse_yaml(text: str, where: str, error: type[CfcamError]) -> Any:
    """What YAML text says, as plain values.

    Args:
        text: One document.
        where: What the text is, as the message begins.
        error: What is raised.

    Returns:
        None, booleans, finite numbers, text, lists, and mappings with text as keys.

    Raises:
        CfcamError: `error`, with the line.
    """
    if len(text) > _MOST_CHARACTERS:
        raise error(f"{where}: is longer than {_MOST_CHARACTERS} characters, more than is read of a configuration")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark is not None else ""
        problem = getattr(cause, "problem", None) or str(cause)
        raise error(f"{where}:{line} not valid YAML ({' '.join(problem.split())})") from cause


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _problem("anchors and aliases are not read: write the value out", event)
        if event.tag is not None:
            raise _problem(f"tags such as {shown(str(event.tag), 60)} are not read: leave it out", event)
        if self._level == _MOST_LEVELS:
            raise _problem(f"more than {_MOST_LEVELS} levels", event)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be a word", key)
            if key.value in seen:
                raise _problem(f"'{shown(key.value)}' comes twice", key)
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def number(self, node: yaml.ScalarNode) -> int | float:
        """A finite number; PyYAML's own conversions fail on some of what it takes for one."""
        construct = self.construct_yaml_int if node.tag == _NUMBERS[0] else self.construct_yaml_float
        try:
            value = construct(node) if len(node.value) <= _MOST_DIGITS else math.inf
        except (ValueError, OverflowError, IndexError):
            value = math.inf
        if not abs(value) <= sys.float_info.max:
            raise _problem(f"'{shown(node.value, 60)}' is no finite number", node)
        return value


def _problem(text: str, at: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, at.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KNOWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag in _NUMBERS:
    _Loader.add_constructor(_tag, _Loader.number)
