"""What makes a site of docs/, whose pages are written to be read in the source tree as well.

- The menu has every page of docs/howto, and other pages that nobody listed under "More": a new one needs no entry.
- models/README.md is a page; links to other files of the source tree become their plain names.
- Links to the outside must look like ones: checked by their form only, as a build must not depend on others' servers.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"models/README.md": "models.md"}  # files of the source tree that are pages
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    listed = set(_paths(config.nav))
    pages = sorted(file.src_uri for file in files if file.is_documentation_page())
    howtos = [page for page in pages if page.startswith("howto/")]
    others = [page for page in pages if page not in listed and page not in howtos]
    nav = [{"How-to": howtos} if entry == {"How-to": "howto/"} else entry for entry in config.nav]
    if others:
        nav.append({"More": others})
    config.nav = nav
    return files


def _paths(nav):
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _paths(entry)


def on_page_markdown(markdown, page, config, files):
    folder = posixpath.dirname(page.file.src_uri)
    source = next((path for path, name in OUTSIDE.items() if name == page.file.src_uri), None)
    # Where the page lies in the source tree, as its links go from there.
    here = posixpath.dirname(source) if source else posixpath.join("docs", folder)

    def turn(match):
        picture, text, target = match.groups()
        address, mark, anchor = target.partition("#")
        parts = urlsplit(target)
        if parts.scheme:
            if parts.scheme not in ("https", "http", "mailto") or not (parts.netloc or parts.scheme == "mailto"):
                raise PluginError(f"{page.file.src_uri}: {target!r} is no address")
            return match[0]
        if not address:
            return match[0]
        path = posixpath.normpath(posixpath.join(here, address))
        name = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if name is not None:
            return f"{picture}[{text}]({posixpath.relpath(name, folder or '.')}{mark}{anchor})"
        if not (ROOT / path).exists():
            raise PluginError(f"{page.file.src_uri}: there is no {path} in the source tree")
        return text if text.strip("`/") == path else f"{text} (`{path}` in the source tree)"

    begin, parts = 0, []
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(turn, markdown[begin : fence.start()]), fence[0]]
        begin = fence.end()
    return "".join([*parts, LINK.sub(turn, markdown[begin:])])
