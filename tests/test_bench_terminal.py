"""A run on a terminal: the table, its colours, the bar."""

import io
import re

import bench_run
import pytest

from fastasgi.bench import progress, terminal

RUN = bench_run.run()
ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


class Screen(io.StringIO):
    def isatty(self):
        return True


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_no_line_is_wider_than_the_terminal(width):
    text = terminal.render(RUN, width=width)
    assert max(map(len, text.splitlines())) <= width


def test_a_row_has_its_figures():
    section = terminal.render(RUN).partition("plain GET, 13-byte answer: CPU per request, less is better")[2]
    assert line_of(section, "fastasgi").split()[:7] == ["fastasgi", "10.0", "30%", "0.25", "x", "50%", "10,000"]
    assert line_of(section, "granian").endswith("noisy: others 25%")
    assert section.index("\nfloor") < section.index("\nfastasgi") < section.index("\nuvicorn")


def test_wider_terminals_have_more_columns_and_the_same_figures():
    narrow, wide = (terminal.render(RUN, width=width) for width in (60, 132))
    assert "p99.9" not in narrow.partition("latency")[0]
    assert "p99.9 us" in wide
    for text in (narrow, wide):
        assert "noisy: others 25%" in text


def test_the_summary_sets_ours_beside_reference_floor_and_best_peer():
    assert line_of(terminal.render(RUN), "plain ").split() == [
        "plain", "10.0", "us", "0.25", "x", "50%", "0.50", "x", "granian"
    ]  # fmt: skip


def test_refused_are_named_at_the_end_and_nowhere_else():
    text = terminal.render(RUN)
    body, _, end = text.partition("Refused, whatever their speed:")
    assert "liar" not in body
    told = "liar, plain GET, 13-byte answer: liar is refused for plain: it answered from a cache"
    assert told in " ".join(end.split())


def test_every_unit_has_its_columns():
    text = terminal.render(RUN, width=132)
    assert "throughput, more is better" in text
    assert line_of(text.partition("idle connections:")[2], "fastasgi").split()[:3] == ["fastasgi", "1.0", "0.12"]
    assert "client-bound" in line_of(text.partition("WebSocket echo, 100 bytes:")[2], "fastasgi")
    assert line_of(text.partition("access log on:")[2], "fastasgi").split()[5:8] == ["10,000", "+1.0", "32"]


def test_latencies_at_a_fixed_rate_have_a_table():
    section = terminal.render(RUN).partition("latency in us at 1,000 requests/s")[2]
    assert line_of(section, "fastasgi").split() == ["fastasgi", "110", "220", "440", "880", "1,920"]


def test_an_interrupted_run_says_so():
    assert "Interrupted" in terminal.render(bench_run.run(is_partial=True))
    assert "Interrupted" not in terminal.render(RUN)


def test_a_run_without_figures_is_no_error():
    assert "fastasgi.bench" in terminal.render(bench_run.run([]))


def test_colours_change_nothing_but_colours():
    coloured = terminal.render(RUN, colours=True)
    assert "\x1b[1mfastasgi\x1b[0m" in coloured
    assert ESCAPE.sub("", coloured) == terminal.render(RUN)
    assert "\x1b" not in terminal.render(RUN)


@pytest.mark.parametrize(
    ("stream", "environment", "colours"),
    [
        (Screen(), {}, True),
        (Screen(), {"NO_COLOR": "1"}, False),
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, stream, environment, colours):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "111")
    width, found = terminal.look(stream)
    assert found is colours
    assert width == (111 if stream.isatty() else 80)


# --- the bar ----------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_bar_shows_how_far_and_how_long(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with progress.Bar(8, screen, clock) as bar:
        bar.doing("plain, uvicorn, round 1 of 2")
        assert "left" not in screen.getvalue()  # nothing is known yet
        clock.now = 60.0
        bar.advance(2)
        shown = screen.getvalue().rpartition("\r\x1b[K")[2]
        assert shown == "[######..................]  25%, 3 min left  plain, uvicorn, round 1 of 2"[:69]
        bar.say("uvicorn is refused")
    text = screen.getvalue()
    assert "\r\x1b[Kuvicorn is refused\n\r\x1b[K[####" in text
    assert text.endswith("\r\x1b[K")  # nothing of the bar stays
    assert all(len(part) < 70 for part in re.split(r"\r\x1b\[K|\n", text))


def test_elsewhere_there_are_plain_lines(clock):
    stream = io.StringIO()
    with progress.Bar(3, stream, clock) as bar:
        bar.doing("one")
        bar.advance()
        bar.doing("two")
        bar.say("a remark")
    assert stream.getvalue() == "[0/3] one\n[1/3] two\na remark\n"


def test_the_bar_ends_at_its_end(clock):
    bar = progress.Bar(2, Screen(), clock)
    bar.advance(5)
    assert bar.left_s == 0
    assert "100%" in bar.line()
    assert "100%" in progress.Bar(0, Screen(), clock).line()


@pytest.mark.parametrize(("seconds", "text"), [(40.2, "40 s"), (59.4, "59 s"), (61, "1 min"), (3900, "1 h 05 min")])
def test_an_estimate_is_no_more_exact_than_it_can_be(seconds, text):
    assert progress.duration(seconds) == text
