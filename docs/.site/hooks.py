"""MkDocs hooks: folders in the navigation, links that leave docs/, and pictures by night."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)#\s]+)\.png\)")
_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#([^)]*))?\)")


def on_config(config: Any) -> Any:
    """Put every page of a folder where the navigation says `FOLDER/*`."""
    docs = Path(config["docs_dir"])
    named = set(_named(config["nav"]))
    config["nav"] = [_expanded(entry, docs, named) for entry in config["nav"]]
    return config


def _named(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [name for part in parts for name in _named(part)]


def _expanded(entry: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(inner, docs, named) for title, inner in entry.items()}
    if not isinstance(entry, list):
        return entry
    expanded: list[Any] = []
    for part in entry:
        if isinstance(part, str) and part.endswith("/*"):
            pages = sorted(docs.glob(f"{part[:-2]}/*.md"))
            paths = [page.relative_to(docs).as_posix() for page in pages]
            expanded += [path for path in paths if path not in named]
        else:
            expanded.append(_expanded(part, docs, named))
    return expanded


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """A link to a file of the repository outside docs/ is a link on GitHub and a name on the site (one
    to a test is its name when pointed at); a picture with a `-dark` beside it is shown as the theme is."""
    docs = Path(config["docs_dir"])
    here = (docs / page.file.src_uri).parent

    def replaced(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(docs.resolve()):
            return link[0]
        text = link[1]
        if target.suffix == ".py" and link[3]:
            return f'<abbr title="{target.name}: {link[3]}">{text}</abbr>'
        return text if text.startswith("`") else f"{text} (`{target.name}`)"

    def by_night(picture: re.Match[str]) -> str:
        if not (here / f"{picture[2]}-dark.png").exists():
            return picture[0]
        return (
            f"![{picture[1]}]({picture[2]}.png#only-light)"
            f"![{picture[1]}]({picture[2]}-dark.png#only-dark)"
        )

    return _LINK.sub(replaced, _PICTURE.sub(by_night, markdown))
