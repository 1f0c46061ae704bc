"""How a widget talks with its page. The page's side of the same protocol is page/protocol.js.

The page sends `{serial, set, go}`: fields of the state to set, and how many entries of a list to go on. It gets
everything that follows from it in one message, with `_request = {done: serial, refused}`, where `refused` says why
something could not be set. It sends nothing more before that message. So at most one request is on its way, and of
the moves that a person makes meanwhile only the last one is asked about.
"""

from __future__ import annotations

from typing import Any

from traitlets import Dict, Unicode

from tsdlab.errors import TsdlabError
from tsdlab.widgets.pictured import PicturedWidget
from tsdlab.widgets.state import State


class PageWidget(State, PicturedWidget):
    """A widget with a state that its page can ask to change.

    A subclass declares the fields and what else the page is told, and calls `_listen` when all of it is set.
    """

    _python = Unicode().tag(sync=True)
    _request = Dict().tag(sync=True)

    @property
    def python(self) -> str:
        """A line of Python that shows the same view again."""
        raise NotImplementedError

    def _listen(self) -> None:
        """Open the page and take its requests. Its first message has everything that was set before."""
        super().__init__()
        self.on_msg(self._receive)
        self.observe(self._write_python, self.fields())
        self._write_python()

    def _write_python(self, _: Any = None) -> None:
        self._python = self.python

    def _receive(self, _: Any, content: dict, __: Any) -> None:
        refused = None
        # One message for everything: each one costs JupyterLab about as much time as the answer costs Python.
        with self.hold_sync():
            try:
                self.assign(content.get("set", {}))
                if content.get("go") in (1, -1):
                    self._go(content["go"])
            except TsdlabError as error:
                refused = str(error)
            except Exception as error:
                refused = f"{type(error).__name__}: {error}"
                raise  # to the log; the page gets its answer all the same
            finally:
                self._request = {"done": content.get("serial"), "refused": refused}

    def _go(self, by: int) -> None:
        """Go on by one entry of what the page steps through, or go back by one."""
        raise NotImplementedError
