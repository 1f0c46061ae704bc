"""Answers about a detector, as numbers. Modules here ask models and draw nothing; `figures/` and `report/` draw them.

One image: `sensitivity` (maps), `slide`, `proposal` (what the explorer shows), `disagreement`.
A data set: `misalignment` and `displacement`; `analyze` does both, `examples` chooses objects to show, `tables` filters
proposals. The numbers are listed in `measures` and `columns`, and `statistics` gives them confidence intervals.
"""
