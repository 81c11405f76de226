"""A page, taken apart: what a browser would make of it, as far as a test needs."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "path", "line", "rect"}


class Parsed(HTMLParser):
    """Elements, ids, links and text of a page; fails where it is not well formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [
            attributes for name, attributes in self.tags
            if name == tag and class_ in [*(attributes.get("class") or "").split(), ""]
        ]  # fmt: skip
