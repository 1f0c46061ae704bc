"""An analysis and a comparison as pages: `write` and `comparison` make their folders, `pictures` composes figures."""
