"""Which files of the repository are pages of the documentation site; a hook of mkdocs.

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
    """Relative links of a notebook, which mkdocs leaves as they are; one that leads nowhere is a warning."""
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
