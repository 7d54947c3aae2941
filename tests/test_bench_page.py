"""The page of a run: whole, safe, honest, and readable in a browser."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser

import bench_run
import pytest

from fastasgi.bench import charts, compare, figures, page

RUN = bench_run.run()
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "br", "hr", "img", "input"}
LOADING = {"src", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Reader(HTMLParser):
    """Every element with its attributes and text; faults of nesting are errors."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


# --- the charts -------------------------------------------------------------------------------------------------------


def bars(chart):
    root = ET.fromstring(chart)
    return [each for each in root.iter() if each.tag.endswith("rect") and "data-value" in each.attrib]


def percent(text):
    assert text.endswith("%")
    return float(text[:-1])


@pytest.mark.parametrize("table", RUN.tables, ids=lambda table: table.scenario)
def test_bars_begin_at_zero_and_are_as_long_as_their_values(table):
    found = bars(charts.scenario_chart(table, "x"))
    assert len(found) == len(figures.measured(table))
    assert {bar.get("x") for bar in found} == {"0"}
    scales = {percent(bar.get("width")) / float(bar.get("data-value")) for bar in found}
    assert max(scales) == pytest.approx(min(scales), rel=1e-3)
    assert [float(bar.get("data-value")) for bar in found] == [
        pytest.approx(figures.middle(table, row), rel=1e-5) for row in figures.ranked(table)
    ]


def test_whiskers_go_from_the_smallest_to_the_largest_round_on_the_scale_of_the_bars():
    chart = charts.scenario_chart(RUN.tables[0], "x")
    scale = next(percent(bar.get("width")) / float(bar.get("data-value")) for bar in bars(chart))
    ours = chart.partition('class="bar ours"')[2].partition("<text")[0]
    left, right = re.search(r'class="whisker" x1="([\d.]+)%" x2="([\d.]+)%"', ours).groups()
    assert float(left) == pytest.approx(9.0 * scale, rel=1e-3)
    assert float(right) == pytest.approx(12.0 * scale, rel=1e-3)


@pytest.mark.parametrize("table", RUN.tables, ids=lambda table: table.scenario)
def test_nothing_of_a_chart_lies_outside_of_it(table):
    for chart in (charts.scenario_chart(table, "x"), charts.latency_chart(table, "x")):
        for _, place in re.findall(r'\b(x|x1|x2|width)="([\d.]+)%"', chart):
            assert 0 <= float(place) <= 100


def test_latencies_have_a_bar_for_each_percentile():
    found = bars(charts.latency_chart(RUN.tables[0], "x"))
    assert [float(bar.get("data-value")) for bar in found] == [110, 220, 440, 880, 450, 900, 1800, 3600]
    assert max(percent(bar.get("width")) for bar in found) <= 100 - charts.GUTTER
    assert charts.latency_chart(RUN.tables[1], "x") == ""


def test_who_was_refused_has_no_bar():
    assert "liar" not in "".join(charts.charts(RUN).values())


@pytest.mark.parametrize(
    ("most", "found"),
    [(48.0, [0, 10, 20, 30, 40]), (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.031, [0, 0.01, 0.02, 0.03]), (2600, None)],
)
def test_ticks_are_round_and_few(most, found):
    ticks = charts.ticks(most)
    assert found is None or ticks == pytest.approx(found)
    assert ticks[0] == 0
    assert 3 <= len(ticks) <= charts.TICKS_AT_MOST + 1
    assert ticks[-1] <= most


def test_chart_files_stand_alone():
    found = charts.charts(RUN)
    assert {"plain.svg", "plain-latency.svg", "idle.svg"} <= found.keys()
    for text in found.values():
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("viewBox").split()[2:] == [root.get("width"), root.get("height")]
        assert "prefers-color-scheme:dark" in text
        assert charts.FILE_CAPTION in text
    assert ">plain GET, 13-byte answer: CPU per request, less is better</text>" in found["plain.svg"]
    for text in found.values():
        assert "url(" not in text and "@import" not in text and "href" not in text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_has_every_part():
    read = Reader(page.render(RUN, compare.compare(RUN, RUN)))
    words = " ".join(" ".join(read.text).split())
    for text in (
        "What a request costs", "0.25 \N{MULTIPLICATION SIGN} uvicorn",
        "CPU per request, plain GET, 13-byte answer: fastasgi 10.0 \N{MICRO SIGN}s; uvicorn 40.0",
        "Summary", "Refused", "liar", "Abacus 3000",
        "python -m fastasgi.bench --against uvicorn", "granian --port PORT", "hypercorn is not installed",
        "Latency at 1,000 requests/s", "Compared with an older run", "client-bound",
    ):  # fmt: skip
        assert text in words, text
    assert read.of("html", lang="en")
    assert len(read.of("h1")) == 1


def test_every_chart_is_named_and_has_a_table_beside_it():
    text = page.render(RUN)
    read = Reader(text)
    ids = [found["id"] for _, found in read.elements if "id" in found]
    assert len(ids) == len(set(ids))
    drawings = read.of("svg")
    assert len(drawings) == len(RUN.tables) + 1
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= set(ids)
    for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
        assert section.count("<svg") <= section.count("<table")
    for region in read.of("div", role="region"):
        assert region["aria-label"] and region["tabindex"] == "0"
    assert {link["href"][1:] for link in read.of("a")} <= set(ids)


def test_captions_say_what_is_drawn():
    text = page.render(RUN)
    several = text.count("begin at zero; whiskers go from the smallest round to the largest")
    one = text.count("Bars are of one round and begin at zero")
    assert (several, one) == (5, 1)  # idle connections have one round only
    assert text.count("<figure>") == 6


def test_nothing_is_loaded_from_anywhere():
    text = page.render(RUN)
    read = Reader(text)
    assert not read.of("script") and not read.of("iframe") and not read.of("img")
    for tag, attributes in read.elements:
        assert not LOADING & attributes.keys(), tag
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    policy = next(each["content"] for each in read.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_what_comes_from_elsewhere_is_text():
    run = bench_run.hostile_run()
    read = Reader(page.render(run, compare.compare(run, run)))
    assert not read.of("script")
    assert "<script>alert(1)</script>" in "".join(read.text)
    assert all(tag != "svg" or "onload" not in found for tag, found in read.elements)


def test_a_run_without_figures_is_no_error():
    Reader(page.render(bench_run.run([])))
    Reader(page.render(bench_run.run(is_partial=True, python={}, versions={}, settings={}, contenders=[], notes=[])))


# --- a browser --------------------------------------------------------------------------------------------------------

LOOK = """
<script>
const faults = [];
window.onerror = (message) => { faults.push(String(message)); };
document.addEventListener('securitypolicyviolation', (event) => faults.push(event.violatedDirective));
window.addEventListener('load', () => {
  const room = document.documentElement.clientWidth;  // without the scrollbar
  const wide = [...document.querySelectorAll('body *')].filter((one) => !one.closest('.wide') && !one.closest('svg')
    && one.getBoundingClientRect().right > room + 0.5).map((one) => one.tagName);
  const cut = [], clash = [];
  for (const drawing of document.querySelectorAll('svg')) {
    const all = drawing.getBoundingClientRect();
    const boxes = [...drawing.querySelectorAll('text')].map((one) => [one.textContent, one.getBoundingClientRect()]);
    boxes.forEach(([name, a], at) => {
      if (a.right > all.right + 1 || a.left < all.left - 1 || a.bottom > all.bottom + 1) cut.push(name);
      boxes.slice(at + 1).forEach(([other, b]) => {
        const across = a.left < b.right && b.left < a.right;
        if (across && a.top + 1 < b.bottom && b.top + 1 < a.bottom) clash.push(name + ' / ' + other);
      });
    });
  }
  const width = document.documentElement.scrollWidth - room;
  parent.postMessage(JSON.stringify({faults, wide, cut, clash, width}), '*');
});
</script>
"""
FRAME = """<!DOCTYPE html><script>
addEventListener('message', (event) => document.documentElement.setAttribute('data-found', event.data));
</script><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>"""


def looked_at(folder, text, width):
    """What a browser finds wrong with a page that is so wide: in a frame, because windows are no narrower than 500."""
    (folder / "page.html").write_text(text, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900",
        "--virtual-time-budget=2000", "--dump-dom", (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=50)
    found = re.search(r'data-found="([^"]*)"', run.stdout)
    assert found, run.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.slow
@pytest.mark.time_limit(60)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux")
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_finds_nothing_wrong(tmp_path, width):
    text = page.render(RUN, compare.compare(RUN, RUN)).replace("style-src", "script-src 'unsafe-inline'; style-src", 1)
    found = looked_at(tmp_path, text.replace("<title>", LOOK + "<title>", 1), width)
    assert found == {"faults": [], "wide": [], "cut": [], "clash": [], "width": 0}


@pytest.mark.slow
@pytest.mark.time_limit(60)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux")
def test_the_browser_would_find_it(tmp_path):
    """A page that is too wide, loads what it must not and has clashing labels is found out."""
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    bad = (
        f'<!DOCTYPE html><html><head><meta http-equiv="Content-Security-Policy" content="{policy}">{LOOK}</head><body>'
        "<p style='width:3000px'>wide</p><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"
        "<svg width='100' height='20'><text y='12'>one</text><text x='5' y='12'>two</text>"
        "<text x='90' y='12'>three</text></svg></body></html>"
    )
    found = looked_at(tmp_path, bad, 800)
    assert found["faults"] and found["wide"] and found["cut"] and found["clash"] and found["width"] > 0
