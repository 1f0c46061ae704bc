"""The parts of a page that both widgets share, and how the files of a page become one.

A widget gets its page as one script and one style sheet, without a build step. The scripts are plain ES modules that
import each other by relative paths. `compose_script` follows the imports and puts all files into one text.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent

# The only two forms of import and export that the files use, besides the `export default` of a page's first file.
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def compose_script(first: Path) -> str:
    """`first` and all modules that it imports, directly or not, as the text of one module; imported files come first.

    All files share one scope, so a name may be declared in one of them only.
    """
    texts: dict[Path, str] = {}

    def add(file: Path) -> None:
        if file in texts:
            return
        text = file.read_text(encoding="utf-8")
        texts[file] = ""  # being read: two files that import each other end here
        for imported in _IMPORT.findall(text):
            add((file.parent / imported).resolve())
        del texts[file]
        texts[file] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(first.resolve())
    return "\n".join(texts.values())


def compose_style(own: Path) -> str:
    """The shared style sheet, followed by that of one widget."""
    return "\n".join(file.read_text(encoding="utf-8") for file in (FOLDER / "page.css", own))
