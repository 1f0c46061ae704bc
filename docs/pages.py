"""Which files of the repository are pages of the documentation site, and its live explorer; a hook of mkdocs.

Each file keeps its path, so a relative link between two of them leads to the same place in a checkout and on the site.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Pages, and the files that they show or link to.
INCLUDED = (
    "README.md", "CONTRIBUTING.md", "LICENSE", "docs/*.md", "notebooks/*.ipynb", "data/README.md", "data/figures/*",
    "data/results/*.json",
)  # fmt: skip

# The explorer that `on_post_build` saves. It has megabytes, so it comes when the reader asks for it.
EXPLORER = "explorer.html"
PICTURE = re.compile(r'<a href="[^"]*"><img [^>]*src="data/figures/explorer\.gif"[^>]*></a>')
OPEN = f"this.parentElement.innerHTML = '<iframe class=explorer src={EXPLORER} title=explorer></iframe>'"
ALIVE = f"""<br>
<button class="md-button" onclick="{OPEN}">Drag it yourself, here</button>
<a class="md-button" href="{EXPLORER}">Drag it on a page of its own</a>"""

log = get_plugin_logger("pages")


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what mkdocs found in docs/ by the included files; the theme's own files and site.css stay."""
    root = Path(config.config_file_path).parent
    found = [path.relative_to(root).as_posix() for pattern in INCLUDED for path in sorted(root.glob(pattern))]
    kept = [file for file in files if file.src_dir != config.docs_dir or file.src_uri.endswith(".css")]
    config.nav = _expand(config.nav, found)
    return Files([*kept, *(File(path, str(root), config.site_dir, config.use_directory_urls) for path in found)])


def _expand(entry: object, found: list[str]) -> object:
    """The navigation with every pattern such as "notebooks/*.ipynb" replaced by the files that match it."""
    if isinstance(entry, list):
        return [_expand(one, found) for one in entry]
    if isinstance(entry, dict):
        return {title: _expand(one, found) for title, one in entry.items()}
    if isinstance(entry, str) and "*" in entry:
        return [path for path in found if PurePosixPath(path).match(entry)]
    return entry


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What mkdocs leaves as it is: the first page's picture, and relative links of a notebook.

    The picture opens the explorer in its place. A link that leads nowhere is a warning.
    """
    if page.is_homepage:
        html, pictures = PICTURE.subn(lambda found: found[0] + ALIVE, html)
        if pictures != 1:
            log.warning(f"{page.file.src_uri} has no picture of the explorer")
        return html
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def resolve(match: re.Match[str]) -> str:
        attribute, link = match.groups()
        path, _, anchor = link.partition("#")
        target = files.get_file_from_path(normpath(str(PurePosixPath(page.file.src_uri).parent / path)))
        if target is None:
            log.warning(f"{page.file.src_uri} links to {link}, which is no page or file of the site")
            return match.group()
        return f'{attribute}="{target.url_relative_to(page.file)}{"#" if anchor else ""}{anchor}"'

    return re.sub(r'\b(href|src)="(?![a-z]+:|#|/)([^"]+)"', resolve, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """A page must be readable without a network; what it would load from elsewhere is a warning."""
    for address in re.findall(r'<(?:script|img|link[^>]+stylesheet")[^>]*(?:src|href)="(https?:[^"]+)"', output):
        log.warning(f"{page.file.src_uri} loads {address}")
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Save the explorer of the README's detector beside the first page."""
    import tsdlab
    from tsdlab.data import SAMPLE, CocoDataset

    explorer = tsdlab.explore({"badges-tsd": tsdlab.load_detector("badges-tsd")}, CocoDataset(SAMPLE, "val"))
    source = "The trained weights and the sample that come with tsdlab."
    explorer.save(Path(config.site_dir) / EXPLORER, overwrite=True, source=source)
