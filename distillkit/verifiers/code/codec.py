"""Values as JSON between the process of a candidate and the process of the tests: typed, and plain on arrival.

Nothing that a candidate makes is compared where it was made. Its value arrives as built-in data or, where it is
anything else, as a number that stands for it, so an object that claims to equal everything equals nothing.
Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing and collections would double the start of every sandbox
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_DIGITS = 100_000
"""Digits of an integer that travels; reading longer ones takes time without bound."""
LINKS = {"ListNode": ("next",), "TreeNode": ("left", "right")}
"""Linked classes that travel by value (LeetCode's), with the fields that hold another node."""


def encode(value: Any, other: Callable[[Any], Any]) -> Any:
    """JSON of a value; what is not plain data is what `other` makes of it, or raises TypeError."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item, other) for item in value]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(item, other) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, other), encode(item, other)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if type(value).__module__ == "numpy":
        return encode(value.tolist(), other)
    if type(value).__name__ in LINKS:
        return _encode_nodes(value, other)
    if type(value).__name__ in _ITERATORS:
        return {"iterator": [encode(item, other) for item in value]}
    return other(value)


_SEQUENCES: dict[str, Any] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes | bytearray,
}
_ITERATORS = {
    "range", "generator", "map", "filter", "zip", "enumerate", "reversed", "list_reverseiterator", "list_iterator",
    "tuple_iterator", "dict_keys", "dict_values", "dict_items", "chain", "islice", "accumulate", "product",
    "permutations", "combinations",
}  # fmt: skip


def _encode_nodes(root: Any, other: Callable[[Any], Any]) -> Any:
    """All nodes that a root reaches, each as [value, index of the next, ...]; cycles and sharing survive."""
    name = type(root).__name__
    nodes, index = [root], {id(root): 0}
    rows = []
    for node in nodes:
        row = [encode(node.val, other)]
        for link in LINKS[name]:
            target = node.__dict__.get(link)
            if target is not None and id(target) not in index:
                index[id(target)] = len(nodes)
                nodes.append(target)
            row.append(None if target is None else index[id(target)])
        rows.append(row)
    return {name: rows}


def decode(data: Any, make: Callable[[str, Any], Any]) -> Any:
    """The value in the JSON; `make` builds what is no built-in (a node class's nodes, a stand-in).

    Raises TypeError, ValueError, KeyError or RecursionError for what `encode` does not write.
    """
    if isinstance(data, list):
        return [decode(item, make) for item in data]
    if not isinstance(data, dict):
        return data
    [(name, content)] = data.items()
    if name == "dict":
        return {decode(key, make): decode(item, make) for key, item in content}
    if name == "complex":
        return complex(float(content[0]), float(content[1]))
    if name in _BUILDERS:
        return _BUILDERS[name](decode(item, make) for item in content)
    return make(name, content)


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes,
    "iterator": lambda items: iter(list(items)),
}


def nodes(kind: type, name: str, rows: Any, make: Callable[[str, Any], Any]) -> Any:
    """The root of linked nodes of the class `kind`, from what `encode` wrote under `name`."""
    made = [kind(decode(row[0], make)) for row in rows]
    for node, row in zip(made, rows, strict=True):
        for link, target in zip(LINKS[name], row[1:], strict=True):
            setattr(node, link, None if target is None else made[target])
    return made[0]


class ListNode:
    """A node of a linked list, as LeetCode defines it."""

    def __init__(self, val: Any = 0, next: Any = None) -> None:
        self.val = val
        self.next = next


class TreeNode:
    """A node of a binary tree, as LeetCode defines it."""

    def __init__(self, val: Any = 0, left: Any = None, right: Any = None) -> None:
        self.val = val
        self.left = left
        self.right = right
