"""The benchmarks of the engines: each does its work and refuses a wrong result; pyperf runs them."""

import json
import subprocess
import sys

import pytest

from fastasgi.bench import _engines, micro


@pytest.mark.parametrize("case", micro.CASES, ids=lambda case: case.name)
def test_each_case_runs(case):
    assert case.prepare()(3) > 0


def test_names_are_unique_and_can_be_chosen():
    names = [case.name for case in micro.CASES]
    assert len(set(names)) == len(names)
    assert [case.name for case in micro.choose("request/s, response/p")] == ["request/small", "response/plain"]
    assert micro.choose("") == micro.CASES
    assert micro.choose("nothing") == []


def test_what_cannot_be_parsed_is_no_figure():
    with pytest.raises(ValueError, match="can be parsed"):
        _engines.parse([b"GET / HTTP/1.1\r\nHost\r\n\r\n"], 1)
    with pytest.raises(ValueError, match="one whole request"):
        _engines.parse([b"GET / HTTP/1.1\r\nHost: x\r\n"], 1)


def test_a_wrong_message_is_no_figure():
    frame = micro.client_frame(b"hello", is_text=True)
    _engines.parse_frame(frame, "hello", None, 2)
    with pytest.raises(ValueError, match="expected 'Hello'"):
        _engines.parse_frame(frame, "Hello", None, 2)
    with pytest.raises(ValueError, match="one whole frame"):
        _engines.parse_frame(frame[:-1], "hello", None, 1)


def test_heads_and_frames_are_as_on_the_wire():
    assert _engines.make_frame(b"abc", 2) == b"\x82\x03abc"
    offers = micro.OFFERS
    frame = micro.client_frame(b"hello" * 100, is_text=False, deflated=True)
    _engines.parse_frame(frame, b"hello" * 100, offers, 3)
    assert len(_engines.compress(b"hello" * 100, offers, 1)) < 50


def run_micro(*arguments):
    command = [sys.executable, "-m", "fastasgi.bench.micro", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_names_are_listed():
    run = run_micro("--list", "--only", "deflate")
    assert run.stdout.split() == ["deflate/inflate-4k", "deflate/compress-4k"]


def test_an_unknown_name_is_told():
    run = run_micro("--only", "nothing")
    assert run.returncode == 2
    assert run.stderr.startswith("micro: expected the beginning of a name (request, response, forwarded, frame")


def test_without_pyperf_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyperf", None)
    assert micro.main([]) == 2
    assert capsys.readouterr().err == (
        "micro: expected pyperf, which writes the results, it is not installed: pip install 'fastasgi[bench]'\n"
    )


@pytest.mark.time_limit(60)
def test_pyperf_runs_them_and_keeps_a_file(tmp_path):
    pyperf = pytest.importorskip("pyperf", reason="pyperf is not installed: pip install 'fastasgi[bench]'")
    path = tmp_path / "micro.json"
    run = run_micro("--quick", "--only", "request/small,frame/make", "-o", str(path))
    assert run.returncode == 0, run.stderr
    suite = pyperf.BenchmarkSuite.load(str(path))
    assert suite.get_benchmark_names() == ["request/small", "frame/make-4k"]
    assert all(0 < benchmark.median() < 0.01 for benchmark in suite)
    assert json.loads(path.read_text())["version"] == "1.0"
