"""How pages look: they fit phones and large screens, and everybody can use them, in light and dark."""

import itertools

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")
CONSOLE = "#main"  # around it is the theme's frame
# Boxes that scroll for themselves where something is too wide; on these pages nothing is.
BOXES_HOLD_ALL = "[...document.querySelectorAll('.c-scroll')].every(box => box.scrollWidth <= box.clientWidth)"


def fits(page: Page) -> bool:
    """Tell whether the page needs no scrolling sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def check(page: Page, *, part: str = "", again: bool = True, boxes: bool = False) -> None:
    """Look at the page that is open. Raises AssertionError with what axe found.

    part: look only at what is inside, by its selector. again: the page may be loaded anew. boxes: nothing scrolls
    sideways, not even in a box of its own.
    """
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        if again:
            page.reload()
        assert fits(page), (page.url, width)
        assert not boxes or page.evaluate(BOXES_HOLD_ALL), page.url
        found = Axe().run(page, context=part or None).response["violations"]
        wrong = [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found]
        assert wrong == [], (page.url, width, scheme)
    page.emulate_media(color_scheme="light")
