"""Where in a TOML file each key is set, for messages: what reads the file does not tell.

The text is cut into statements, and the reader itself says which keys each of them sets.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

_TOKEN = re.compile(  # of TOML: a text, a comment, or what opens, closes and ends a statement
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'" r"|#[^\n]*|[\[\]{}\n]", re.S
)


def lines_of(text: str, within: str) -> dict[str, int]:
    """The line in which each key of right TOML is first set, by its name; of a table `within`, "within.name"."""
    found: dict[str, int] = {}
    line, table = 1, ""
    for statement in _statements(text):
        is_table = statement.lstrip().startswith("[")
        table = statement if is_table else table
        for name, value in tomllib.loads(table if is_table else table + statement).items():
            found.setdefault(name, line)
            for each in value if name == within and isinstance(value, Mapping) else ():
                found.setdefault(f"{within}.{each}", line)
        line += statement.count("\n")
    return found


def _statements(text: str) -> Iterator[str]:
    """The parts of a TOML file that a line's end closes: none within a text, a list or a comment is one."""
    begin, depth = 0, 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and not depth:
            yield text[begin : token.end()]
            begin = token.end()
    yield text[begin:]
