"""YAML in and out: the one home of the YAML library."""

import re
from typing import Any, Final

import yaml

from orchestrator.errors import CiInvalid

LONG_LINES: Final = "# yamllint disable rule:line-length\n"
LONG_LINES_END: Final = "# yamllint enable rule:line-length\n"
"""Digests and commands have the length that they have; around the block, people's own rule counts."""


class _Plain(yaml.SafeDumper):
    """Writes scripts as blocks, and lists indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - the library's own signature
        return super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's own signature
        return True


def _script(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _script)


def yaml_text(value: Any) -> str:
    """Write a value; keys keep their order."""
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=1000, allow_unicode=True)


def read_yaml(text: str, place: str) -> Any:
    """Read one document of plain values. Raises CiInvalid."""
    try:
        return yaml.load(text, Loader=_Strict)  # noqa: S506 - a safe loader, below
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise CiInvalid(f"{place} is not YAML{where}: {problem}",
                        next_step="mend it by hand, or move it away and write it anew") from None  # fmt: skip


class _Strict(yaml.SafeLoader):
    """Refuses aliases, which grow without bound, and keys that stand twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain word", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


# "on" is a word here, as it is for the services; only true and false are truth values.
_Strict.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TRUTH = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_Strict.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUTH, list("tTfF"))
