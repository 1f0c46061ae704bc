"""Execute every notebook in this folder in place: `make notebooks`, or `python notebooks/execute.py 01 03`.

A notebook runs in an empty folder and without a network, as it must anywhere. The file is replaced only when all of
its cells ran.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tsdlab.files import atomic_write

HERE = Path(__file__).parent

# Run by the kernel before the first cell: looking up any name fails, as it does without a network.
BLOCK_NETWORK = "import socket; socket.getaddrinfo = lambda *_, **__: (_ for _ in ()).throw(OSError('no network'))"


def is_blank(output: dict) -> bool:
    """Whether nothing can be seen of an output, such as a progress bar that was cleared."""
    return output["output_type"] == "stream" and not output["text"].strip()


def run(notebook: NotebookNode, folder: Path | str) -> None:
    """Execute all cells in a folder, without a network; their outputs are put into `notebook`."""
    NotebookClient(
        notebook,
        timeout=1800,
        coalesce_streams=True,  # else the output depends on how fast lines are printed
        # Without the first one the kernel's own warnings are printed into a cell.
        extra_arguments=["--log-level=ERROR", f"--IPKernelApp.exec_lines={BLOCK_NETWORK}"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, folder)
    notebook.metadata.pop("widgets", None)  # GitHub refuses to show a notebook that carries it
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)  # timestamps, which would make every run a change
            cell.outputs = [output for output in cell.outputs if not is_blank(output)]
    with atomic_write(path) as file:
        file.write(nbformat.writes(notebook).encode() + b"\n")


def main() -> None:
    wanted = tuple(sys.argv[1:]) or ("",)
    notebooks = [path for path in sorted(HERE.glob("*.ipynb")) if path.name.startswith(wanted)]
    if not notebooks:
        sys.exit(f"no notebook in {HERE} starts with {' or '.join(wanted)}")
    for path in notebooks:
        start = time.perf_counter()
        print(f"{path.name} …", flush=True)
        execute(path)
        print(f"{path.name} ran in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
