"""Numbers as pictures. Every function takes a result and an Axes, draws, and returns the Axes; none asks a model.

`style` (colours, axes), `overlays` (images, boxes), `pooling` (bins, samples), `scores`, `maps` (sensitivity maps),
`measures` (a whole analysis), `comparison` (curves and bars of several heads). `plots` has the general ones under one
name. A new plot goes into the file of its subject.
"""
