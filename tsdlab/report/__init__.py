"""An analysis as a page: `write` makes the folder, `pictures` composes its figures, `page` fills a template."""
