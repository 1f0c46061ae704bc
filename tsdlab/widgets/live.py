"""A plot that follows a training run from inside a notebook."""

from __future__ import annotations

from collections import defaultdict

import matplotlib.pyplot as plt
from IPython.display import display

from tsdlab.figures.plots import training_curve


class LiveLoss:
    """Redraws one loss curve per run while `tsdlab.train(..., on_step=live.run(name))` works.

    Args:
        key: the loss that is drawn; "total" is the sum.
        every: steps between two drawings: drawing takes about as long as a step.
    """

    def __init__(self, key: str = "total", every: int = 25) -> None:
        self.key = key
        self.every = every
        self.logs: dict[str, list[dict[str, float]]] = defaultdict(list)
        self.figure, self.ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
        plt.close(self.figure)  # shown through its own display handle, once
        self.handle = display(self.figure, display_id=True)

    def run(self, name: str):
        """The `on_step` callback of the run called `name`."""

        def on_step(step: int, losses: dict[str, float]) -> None:
            self.logs[name].append({"step": step, **losses})
            if step % self.every == 0:
                self.draw()

        return on_step

    def draw(self) -> None:
        """Draw every run so far."""
        self.ax.clear()
        training_curve(self.logs, self.key, ax=self.ax)
        self.handle.update(self.figure)
