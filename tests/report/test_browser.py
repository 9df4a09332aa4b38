"""The page in a real browser: nothing of the data runs, it fits a phone, and the trace browser works."""

from collections.abc import Iterator
from typing import Any

import pytest

from distillkit.report.page import write_report

pytestmark = pytest.mark.browser

FOREIGN = "iframe,img,base,link,object,embed,form,video,template,marquee,annotation-xml,maction,foreignObject"
"""Elements that the page never has."""
ACTIVE = "a => a.name.startsWith('on') || /^\\s*(javascript|data):/i.test(a.value)"
WIDTHS = (1400, 820, 360)


class Tab:
    """The opened report, and what it asked for and complained about."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(address)

    def show_all(self) -> None:
        """Draw every trace that the filters let through, and open every fold."""
        while self.page.locator("#more").is_visible():
            self.page.click("#more")
        self.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    def cards(self, side: str) -> list[str]:
        """Texts of the cards on one side."""
        found: list[str] = self.page.locator(f"#pairs .{side}").all_text_contents()
        return found


@pytest.fixture
def open_tab(browser: Any, world: Any) -> Iterator[Any]:
    """Opens the report of the hostile world at a width and in a colour scheme."""
    contexts = []

    def open_(width: int = 1280, scheme: str = "light", run: Any = None) -> Tab:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        return Tab(contexts[-1], ((run or world.run) / "report.html").as_uri())

    yield open_
    for context in contexts:
        context.close()


def test_nothing_of_the_data_runs_or_asks_for_anything(open_tab: Any, worlds: Any) -> None:
    tab = open_tab()
    tab.show_all()
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("typeof window.hacked") == "undefined"
    assert tab.requests == [tab.page.url]
    assert tab.complaints == []
    count = "document.querySelectorAll('{}').length"
    assert tab.page.evaluate(count.format("script")) == 2
    assert tab.page.evaluate(count.format(f"{FOREIGN},style,body")) == 2
    assert (
        tab.page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(ACTIVE)".replace(
                "ACTIVE", ACTIVE
            )
        )
        == []
    )
    text = tab.page.text_content("#pairs")
    for hostile in worlds.HOSTILE[:16]:
        assert hostile in text, "it is shown as it is"
    assert "\u202e" not in text
    assert "[U+202E]right to left" in text


def test_nothing_of_names_warnings_or_findings_runs(open_tab: Any, rich_world: Any) -> None:
    tab = open_tab(run=rich_world.run)
    tab.show_all()
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("typeof window.hacked") == "undefined"
    assert tab.requests == [tab.page.url]
    assert tab.complaints == []
    assert tab.page.evaluate(f"document.querySelectorAll('{FOREIGN}').length") == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_with_every_chapter_fits_its_width(open_tab: Any, rich_world: Any, width: int) -> None:
    tab = open_tab(width, run=rich_world.run)
    tab.show_all()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_formulas_are_mathml_and_keep_their_source(open_tab: Any) -> None:
    tab = open_tab()
    tab.page.fill("#search", "hacked=19")
    formula = tab.page.locator("#pairs .formula").first
    assert formula.get_attribute("title") == "$<script>window.hacked=19</script>$"
    spaces = "[...document.querySelectorAll('#pairs math, #pairs math *')].map(each => each.namespaceURI)"
    assert set(tab.page.evaluate(spaces)) == {"http://www.w3.org/1998/Math/MathML"}


def test_a_verdict_narrows_what_is_shown(open_tab: Any) -> None:
    tab = open_tab()
    options = tab.page.locator("#verdict option").all_inner_texts()
    assert options == ["right or wrong", "right: 150", "wrong: 50"]
    assert tab.page.locator("#model").is_hidden(), "there is one model"
    tab.page.select_option("#verdict", "wrong")
    assert tab.page.inner_text("#shown") == "on this page: 0 kept, 50 dropped"


LONG = "wait, " + "so it goes " * 400 + "needle at the end"


def test_a_long_reasoning_opens_where_the_search_hits_and_whole_on_request(
    open_tab: Any, worlds: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "FOREIGN", LONG)
    made = worlds.make_world(tmp_path, until="judged")
    write_report(made.run, made.store)
    tab = open_tab(run=made.run)
    first = tab.page.locator("#pairs article", has_text="wait, so it goes").first
    assert len(first.locator(".reasoning").text_content()) == 1500
    tab.page.fill("#search", "needle")
    found = tab.page.locator("#pairs .reasoning", has_text="needle").first
    assert found.text_content().startswith("... ")
    tab.page.locator("#pairs .whole").first.click()
    assert LONG in tab.page.locator("#pairs .reasoning").all_text_contents()


def test_what_slipped_in_would_not_run_either(open_tab: Any) -> None:
    tab = open_tab()
    tab.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.hacked=1><svg onload=window.hacked=2>')"
    )
    tab.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked=3'; document.body.append(s); }"
    )
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_width(open_tab: Any, width: int, scheme: str) -> None:
    tab = open_tab(width, scheme)
    tab.show_all()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """width => [...document.querySelectorAll('main *, header *')]
        .filter(each => !each.closest('.wide, pre, .reasoning, svg, math') && each.getBoundingClientRect().right > width + 1)
        .map(each => each.outerHTML.slice(0, 120))"""
    assert tab.page.evaluate(beyond, width) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_words_of_figures_are_readable_and_inside(open_tab: Any, width: int) -> None:
    tab = open_tab(width)
    cut = """width => [...document.querySelectorAll('figure svg text')].map(each => {
        const box = each.getBoundingClientRect();
        const px = parseFloat(getComputedStyle(each).fontSize) * each.closest('svg').getScreenCTM().a;
        return [each.textContent, box.left >= 0 && box.right <= width && px >= 9];
    }).filter(pair => !pair[1])"""
    assert tab.page.evaluate(cut, width) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(open_tab: Any, scheme: str) -> None:
    tab = open_tab(scheme=scheme)
    contrasts = """() => {
        const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = each => {
            for (let at = each; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (colour !== 'rgba(0, 0, 0, 0)') return colour;
            }
        };
        return ['h1', '.dim', '.fate', '.text', 'td', '.small', 'mark', 'a[href]', 'figcaption .dim', 'figure svg text']
            .flatMap(name => [...document.querySelectorAll(name)].slice(0, 40)).map(each => {
                const style = getComputedStyle(each);
                const own = light(each.closest('svg') ? style.fill : style.color), below = light(ground(each));
                return [each.tagName, (Math.max(own, below) + 0.05) / (Math.min(own, below) + 0.05)];
            }).filter(pair => pair[1] < 4.5);
    }"""
    assert tab.page.evaluate(contrasts) == []


def test_search_and_reason_narrow_what_is_shown(open_tab: Any) -> None:
    tab = open_tab()
    assert tab.page.inner_text("#shown") == "on this page: 100 kept, 100 dropped"
    options = tab.page.locator("#reason option").all_inner_texts()
    assert options == [
        "dropped for any reason",
        "mixed_language (stage right): 50",
        "wrong (stage right): 50",
    ]
    tab.page.fill("#search", "ONBEGIN")
    assert tab.page.inner_text("#shown") == "on this page: 2 kept, 2 dropped"
    assert len(tab.cards("kept")) == len(tab.cards("dropped")) == 2
    tab.page.select_option("#reason", "wrong (stage right)")
    assert tab.page.inner_text("#shown") == "on this page: 2 kept, 1 dropped"
    [card] = tab.cards("dropped")
    assert card.startswith(
        "dropped: wrong (stage right) · also long<img src=x onerror=window.hacked=55> · toy:base · 13 tokens"
    )
    tab.page.fill("#search", "there is no such text")
    assert tab.cards("kept") == tab.cards("dropped") == []
    tab.page.fill("#search", "")
    assert tab.page.inner_text("#shown") == "on this page: 100 kept, 50 dropped"


def test_a_dropped_trace_stands_beside_a_kept_one_of_its_problem(open_tab: Any) -> None:
    tab = open_tab()
    tab.show_all()
    pairs = tab.page.locator("#pairs .pair").all()
    assert len(pairs) == 100
    for pair in pairs[:10]:
        first, second = pair.locator(".prompt").all_text_contents()
        assert first == second
    top, below = (pairs[0].locator("article").nth(at).bounding_box() for at in (0, 1))
    assert top["y"] == below["y"]
    assert top["x"] < below["x"]


def test_marks_of_a_trace_are_where_the_measures_say(open_tab: Any) -> None:
    tab = open_tab()
    tab.page.fill("#search", "所以")
    foreign = tab.page.locator("#pairs .dropped mark.foreign")
    assert foreign.first.text_content() == "所以"
    assert foreign.first.get_attribute("title") == "language: zh"
    words = tab.page.locator("#pairs .dropped").first.locator("mark.reflection").all_text_contents()
    assert words == ["wait", "check"]


def test_keys_are_enough(open_tab: Any) -> None:
    tab = open_tab()
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.id") == "search":
            break
    tab.page.keyboard.type("onbegin")
    assert tab.page.inner_text("#shown") == "on this page: 2 kept, 2 dropped"
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.inner_text("#shown") == "on this page: 2 kept, 1 dropped"


def test_without_scripts_all_but_the_traces_is_there(browser: Any, world: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = Tab(context, (world.run / "report.html").as_uri())
    assert tab.page.locator("figure svg").count() == 19
    assert "needs JavaScript" in tab.page.inner_text("#browser")
    context.close()
