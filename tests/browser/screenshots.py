"""Pictures of every page, light, dark and on a phone: `python -m tests.browser.screenshots FOLDER`.

Each page becomes one small picture for the docs; with `--full`, three pictures of its whole length, to be looked at.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.site import OPTIONS, PAGES, Site, chromium, served
from zora_core.database.embedded import EmbeddedServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True},
}
ROOT = Path(__file__).resolve().parents[2]
# The demo reads files of this very folder, and says where they are: a picture is not to tell whose machine made it.
PLACES = """([here, there]) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(here, there);
}"""
HEIGHT = 480  # of a picture, in pixels; a desk is 768 wide then, a phone 234


def main(folder: Path, only: list[str], *, full: bool) -> None:
    """Serve a site of its own, open every page, and write the pictures."""
    from playwright.sync_api import sync_playwright

    program = chromium()
    if program is None:
        sys.exit("no Chromium or Chrome on this machine: install one (Debian: apt-get install chromium)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="zora-") as temporary:
        home = Path(temporary)
        home.chmod(0o755)
        server = EmbeddedServer.at(home / "database")
        try:
            with served(server.start(), home) as site, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
                state = _signed_in(browser, site)
                for name in only or [*PAGES, "sign-in"]:
                    _take(browser, site, state, name, folder, full=full)
                    print(name, flush=True)
                browser.close()
        finally:
            server.release()


def _signed_in(browser: Browser, site: Site) -> Any:
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.link())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/agents/tasks")
    return context.storage_state()


def _take(browser: Browser, site: Site, state: Any, name: str, folder: Path, *, full: bool) -> None:
    shots = []
    for look, options in LOOKS.items():
        context = browser.new_context(**options, storage_state=None if name == "sign-in" else state)
        page = context.new_page()
        page.goto(site.url + ("/admin/sign-in" if name == "sign-in" else site.path(name)), wait_until="networkidle")
        page.evaluate(PLACES, [str(ROOT), "/srv/shop"])
        if full:
            page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)
        else:
            shots.append(page.screenshot())
        context.close()
    if not full:
        page = browser.new_page()
        (folder / f"{name}.webp").write_bytes(_sheet(page, shots))
        page.close()


def _sheet(page: Page, shots: list[bytes]) -> bytes:
    """The three looks beside each other, as WebP."""
    images = "".join(
        f'<img height="{HEIGHT}" src="data:image/png;base64,{base64.b64encode(s).decode()}">' for s in shots
    )
    page.set_content(f'<body style="margin:0;display:inline-flex;gap:8px;background:#888">{images}</body>')
    width = page.evaluate("Math.ceil(document.body.getBoundingClientRect().width)")
    clip = {"x": 0, "y": 0, "width": width, "height": HEIGHT, "scale": 1}
    page.set_viewport_size({"width": width, "height": HEIGHT})
    client = page.context.new_cdp_session(page)
    taken = client.send("Page.captureScreenshot", {"format": "webp", "quality": 45, "clip": clip})
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
    main(Path(arguments[0]), arguments[1:], full="--full" in sys.argv)
