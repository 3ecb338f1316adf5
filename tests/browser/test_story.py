"""What a person does with the pages, from signing in to taking a decision back, in a real browser."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.site import Site


def mark(page: Page) -> None:
    """Leave something in the page that does not survive a reload."""
    page.evaluate("window.mark = 1")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("window.mark === 1"))


def test_from_signing_in_to_taking_a_decision_back(site: Site, visit: Open) -> None:
    page = visit(signed_in=False)

    page.goto(site.link())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    expect(page.locator(".tabs [aria-current]")).to_contain_text("Needs you")

    # A task from the form of its type: what is wrong is said before it is sent, and the command line is shown.
    page.keyboard.press("n")
    page.get_by_role("link", name="propose_new_climate_missions").click()
    page.get_by_label("Title").fill("Missions from the browser")
    expect(page.locator("#command .command")).to_contain_text(
        "zora --tenant demo create-task ORACLE propose_new_climate_missions"
    )
    page.get_by_role("button", name="Create").click()

    # It is finished without a reload.
    expect(page.get_by_role("heading", level=1)).to_have_text("Missions from the browser")
    mark(page)
    expect(page.locator("#task-head .state")).to_have_text("completed")
    expect(page.locator("#task-timeline")).to_contain_text("Run 1 began")
    assert is_marked(page)

    # A suggestion is approved by keyboard, and its effect is seen.
    expect(page.locator("#task-suggestions .card").first).to_be_visible()
    page.locator("main").focus()
    page.keyboard.press("j")
    expect(page.locator("#task-suggestions .card.current")).to_have_count(1)
    title = page.locator("#task-suggestions .card.current h3").inner_text()
    page.keyboard.press("a")
    expect(page.locator(".notice")).to_contain_text("Applied")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Climate")
    mission = title.split(": ")[-1]
    expect(page.locator("main")).to_contain_text(mission)

    # It is taken back.
    page.go_back()
    expect(page.locator("#task-suggestions .state.applied")).to_have_count(1)
    applied = page.locator("#task-suggestions .card", has=page.locator(".state.applied"))
    applied.locator("a").first.focus()
    page.keyboard.press("u")
    expect(page.locator(".notice")).to_contain_text("Taken back")
    page.goto(site.url + "/admin/climate")
    expect(page.locator("main")).not_to_contain_text(mission)


def test_filters_live_in_the_address_and_can_be_shared(site: Site, visit: Open) -> None:
    page = visit("/admin/agents/tasks?view=all")
    page.keyboard.press("/")
    page.keyboard.type("checkout")
    page.locator("select[name=agent]").select_option("SAM")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".row")).to_contain_text("Check the checkout page")
    query = parse_qs(urlsplit(page.url).query)
    assert (query["q"], query["agent"]) == (["checkout"], ["SAM"])
    other = visit(urlsplit(page.url).path + "?" + urlsplit(page.url).query)
    expect(other.locator(".row")).to_have_count(1)
    expect(other.get_by_label("Text or id")).to_have_value("checkout")


def test_a_page_says_that_the_connection_is_gone_and_catches_up(site: Site, visit: Open) -> None:
    page = visit("/admin/agents/tasks?view=live")
    live = page.locator("#live")
    expect(live).to_have_text("● live")
    mark(page)
    site.stop()
    expect(live).to_have_text(re.compile(r"not updated for \d+ s"))
    site.zora("create-task", "EIVOR", "summarize_recent_events", "Meanwhile", "--run-at", "2031-01-01T00:00:00Z")
    waiting = page.locator("[data-count=waiting], .figures").first.inner_text()
    site.start()
    expect(live).to_have_text("● live", timeout=40_000)
    expect(page.locator(".figures")).not_to_have_text(waiting)
    assert is_marked(page)


def test_several_tasks_are_selected_by_keyboard_and_each_ones_outcome_is_told(site: Site, visit: Open) -> None:
    for number in range(3):
        site.zora(
            "create-task", "EIVOR", "summarize_recent_events", f"Some day {number}", "--run-at", "2031-01-01T00:00:00Z"
        )
    page = visit("/admin/agents/tasks?view=all&q=Some+day")
    expect(page.locator(".row")).to_have_count(3)
    for _ in range(2):
        page.keyboard.press("j")
        page.keyboard.press("x")
    assert page.locator("input[name=id]:checked").count() == 2
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".notice")).to_contain_text("2 of 2 tasks cancelled")
    expect(page.locator(".row .state.failed")).to_have_count(2)


def test_signing_out_ends_the_pages_that_are_open_elsewhere(site: Site, visit: Open) -> None:
    page = visit(signed_in=False)
    page.goto(site.link("bea@example.org", "viewer"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_have_text("● live")
    other = page.context.new_page()
    other.goto(site.url + "/admin/journal")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in", timeout=15_000)


def test_keys_do_nothing_while_somebody_types_and_can_be_turned_off(visit: Open) -> None:
    page = visit("/admin/agents/tasks?view=all")
    page.get_by_label("Text or id").focus()
    page.keyboard.type("gj?n")
    expect(page.get_by_label("Text or id")).to_have_value("gj?n")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Use keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.reload()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")


def test_a_suggestion_is_rejected_with_a_reason_by_thumb(visit: Open, site: Site) -> None:
    page = visit("/admin/agents/tasks", viewport={"width": 390, "height": 844}, has_touch=True)
    card = page.locator(".card").last
    title = card.locator("h2").inner_text()
    for control in card.locator(".decide > form button, .decide > a, .decide > details > summary").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] >= 44
    card.locator("summary", has_text="Reject").tap()
    card.get_by_label("Why?").fill("Not this year")
    card.locator(".reject button").tap()
    expect(page.locator(".notice")).to_contain_text(f"Rejected: “{title}”")


def test_pages_work_without_a_script(visit: Open, site: Site) -> None:
    page = visit("/admin/agents/tasks/new?agent=EIVOR&type=summarize_recent_events", java_script_enabled=False)
    page.get_by_label("Title").fill("Without a script")
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".command")).to_contain_text("'Without a script'")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Without a script")
    page.goto(site.url + "/admin/agents/tasks")
    page.locator(".card").first.get_by_role("button", name="Approve").click()
    expect(page.locator(".notice").first).to_be_visible()
