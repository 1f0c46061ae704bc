"""Data sets in other formats, written as a folder in COCO's format.

`source` holds what the readers share and fill; each reader is a file of its own with `finds` (is this my format?) and
`read`. `convert` chooses the reader, splits, and writes the folder.
"""

from tsdlab.data.imports.convert import FORMATS, import_data

__all__ = ["FORMATS", "import_data"]
