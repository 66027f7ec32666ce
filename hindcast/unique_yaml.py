"""Reads YAML in which no key may come twice: PyYAML would take the last one without a word."""

from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is on line {seen[key.value]} and again on line {line}"
                )
            seen[str(key.value)] = line
        return super().construct_mapping(node, deep=deep)


def load(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: It isn't YAML, or a key comes twice in one mapping.
    """
    return yaml.load(text, _UniqueKeys)
