"""The browser that other tests drive does what it is told, and hides nothing."""

from __future__ import annotations

import pytest
from browser import Browser, BrowserError, needs_chromium

pytestmark = needs_chromium

PAGE = """data:text/html,<title>one</title><body style="margin:0"><p id=p style="width:90px;height:40px">none</p>
<script>
const say = text => document.getElementById('p').textContent = text;
addEventListener('pointermove', e => say(`at ${e.clientX} ${e.clientY} ${e.buttons}`));
addEventListener('wheel', e => say(`wheel ${e.deltaY}`));
addEventListener('keydown', e => say(e.key));
addEventListener('click', e => say('click'));
</script>"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


def test_it_opens_moves_turns_types_and_clicks(browser):
    page = browser.open(PAGE, width=300, height=200)
    assert page.evaluate("[document.title, innerWidth, innerHeight]") == ["one", 300, 200]
    page.move(30, 20)
    assert page.text("#p") == "at 30 20 0"
    page.drag((30, 20), (60, 90))
    assert page.wait("document.body.innerText.includes('click')")
    page.wheel(30, 20, -120)
    page.wait("document.body.innerText.includes('wheel -120')")
    page.key("ArrowRight")
    assert page.text("#p") == "ArrowRight"
    page.click("#p")
    assert page.text("#p") == "click"
    assert page.screenshot()[1:4] == b"PNG"
    assert page.problems == []
    page.close()


def test_it_remembers_what_went_wrong(browser):
    page = browser.open("data:text/html,<script>console.error('one', 2); throw new Error('three')</script>")
    page.evaluate("console.log('four')")
    assert any("one 2" in problem for problem in page.problems)
    assert any("three" in problem for problem in page.problems)
    assert not any("four" in problem for problem in page.problems)
    page.close()


def test_what_a_script_throws_and_what_never_comes_are_errors(browser):
    page = browser.open("data:text/html,x")
    assert page.evaluate("new Promise(done => setTimeout(() => done(7), 20))") == 7
    with pytest.raises(BrowserError, match="nothing here"):
        page.evaluate("(() => { throw new Error('nothing here') })()")
    with pytest.raises(BrowserError, match="never true"):
        page.wait("false", seconds=0.1)
    page.close()
