"""Every page: nothing for axe or our own review to object to, light and dark, on a phone; and as light as we preach."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Open
from tests.browser.site import OPEN_ALL, PAGES, Site
from zora_core.admin.rendering import asset
from zora_core.skills.accessibility import check_accessibility
from zora_core.skills.page import Page
from zora_core.skills.page.footprint import footprint

MAX_BYTES = 60_000
# Besides those that are seen with a session.
OTHERS = {"sign-in": "/admin/sign-in", "link": "/admin/sign-in?link=x", "error": "/admin/nowhere"}
SCHEMES: list[Any] = ["light", "dark"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_any_page(site: Site, visit: Open, scheme: Any) -> None:
    page = visit(color_scheme=scheme, refused=True)
    axe = Axe()
    found = {}
    for name, path in {**{name: site.path(name) for name in PAGES}, **OTHERS}.items():
        answer = page.goto(site.url + path)
        assert answer is not None
        assert answer.status == (404 if name == "error" else 200), name
        page.evaluate(OPEN_ALL)
        result = axe.run(page)
        if result.violations_count:
            found[name] = [
                (violation["id"], [node["html"][:200] + str(node["any"])[:300] for node in violation["nodes"][:3]])
                for violation in result.response["violations"]
            ]
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_our_own_review_finds_nothing_on_any_page(site: Site, visit: Open, scheme: Any) -> None:
    css = asset("admin.css")
    assert css is not None
    sheet = css[0].decode()
    if scheme == "dark":  # the review reads a sheet as a screen by day does
        sheet = sheet.replace("(prefers-color-scheme: dark)", "all")
    page = visit(color_scheme=scheme, java_script_enabled=False, refused=True)
    found = {}
    for name, path in {**{name: site.path(name) for name in PAGES}, **OTHERS}.items():
        page.goto(site.url + path)
        html = page.content()
        link = re.search(r'href="(/admin/static/admin\.css[^"]*)"', html)
        assert link is not None
        read = Page(page.url, html, page.url).loaded({link[1]: sheet}, len(html))
        report = check_accessibility(read, "AA")
        if report.findings:
            found[name] = [(f.rule_id, f.title, [str(e)[:300] for e in f.evidence[:2]]) for f in report.findings]
    assert not found, json.dumps(found, indent=1)


def test_no_page_is_wider_than_a_phone(site: Site, visit: Open) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    wide = {}
    for name in PAGES:
        page.goto(site.url + site.path(name))
        width = page.evaluate("document.scrollingElement.scrollWidth")
        if width > 390:
            wide[name] = page.evaluate(
                "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 391"
                " && !e.closest('.scroll')).slice(0, 3).map(e => e.outerHTML.slice(0, 200))"
            )
    assert not wide, json.dumps(wide, indent=1)


def test_a_first_view_of_any_page_is_small_and_loads_nothing_from_elsewhere(site: Site, visit: Open) -> None:
    for name in PAGES:
        page = visit()
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        sizes: list[int] = []
        client.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
        hosts: set[str] = set()
        page.on("request", lambda request, hosts=hosts: hosts.add(request.url.split("/")[2]))
        page.goto(site.url + site.path(name), wait_until="networkidle")
        assert hosts == {site.url.split("/")[2]}, name
        assert len(sizes) >= 3, name
        assert sum(sizes) < MAX_BYTES, f"{name}: {sum(sizes)}"
        assert footprint(sum(sizes)).grade == "A+", name
        page.context.close()


def test_every_key_of_the_help_leads_somewhere(site: Site, visit: Open) -> None:
    page = visit("/admin/agents/tasks?view=live")
    letters = page.locator("[data-go]").evaluate_all("all => all.map(a => [a.dataset.go, a.getAttribute('href')])")
    assert len(letters) == 10
    for letter, path in letters:
        page.goto(site.url + "/admin/agents/tasks?view=live")
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_url(f"**{path}")
