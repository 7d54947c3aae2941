"""The file of a run: read back exactly, and read by the real pyperf."""

import json
import subprocess
import sys

import bench_run
import pytest

from fastasgi.bench import store

pyperf = pytest.importorskip("pyperf", reason="pyperf is not installed: pip install 'fastasgi[bench]'")


def run_pyperf(*arguments):
    run = subprocess.run(
        [sys.executable, "-m", "pyperf", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "run.json"
    store.write(bench_run.run(), path)
    return path


def test_a_run_comes_back_as_it_went(recorded):
    assert store.read(recorded) == bench_run.run()


def test_a_run_of_hostile_words_comes_back_too(tmp_path):
    store.write(bench_run.hostile_run(), tmp_path / "x.json")
    assert store.read(tmp_path / "x.json") == bench_run.hostile_run()


def test_pyperf_finds_each_contender_with_its_rounds(recorded):
    suite = pyperf.BenchmarkSuite.load(str(recorded))
    names = suite.get_benchmark_names()
    assert "plain/liar" not in names
    assert {"plain/fastasgi", "plain/fastasgi/p99", "download/uvicorn", "download/uvicorn/answer"} <= set(names)
    plain = suite.get_benchmark("plain/fastasgi")
    assert plain.get_values() == pytest.approx((9e-6, 10e-6, 12e-6))
    assert plain.get_nrun() == 3  # a fresh server each
    assert plain.get_metadata()["contender_command"] == "fastasgi --port PORT"
    assert plain.get_metadata()["cpu_model_name"] == "Abacus 3000"
    assert suite.get_benchmark("plain/fastasgi/p99").get_values() == pytest.approx((400e-6, 440e-6, 480e-6))
    assert suite.get_benchmark("download/uvicorn/answer").get_values() == pytest.approx((1 / 512, 1 / 512))
    idle = suite.get_benchmark("idle/uvicorn")
    assert (idle.get_unit(), idle.get_values()) == ("byte", (8192.0,))


def test_pyperf_compares_two_runs(recorded, tmp_path):
    newer = bench_run.run()
    for sample in newer.tables[0].rows[1].samples:
        object.__setattr__(sample, "user_s", sample.user_s * 3)  # twice the CPU
    store.write(newer, tmp_path / "newer.json")
    told = run_pyperf("compare_to", recorded, tmp_path / "newer.json", "--table")
    line = next(line for line in told.splitlines() if "plain/fastasgi " in line)
    assert "2.00x slower" in line
    assert "uvicorn" not in "".join(line for line in told.splitlines() if "slower" in line)


def test_pyperf_shows_and_counts(recorded):
    assert "plain/fastasgi" in run_pyperf("show", recorded)
    assert "Total number of values: 3" in run_pyperf("stats", "-b", "plain/fastasgi", recorded)


def test_a_round_without_cpu_time_is_left_out_for_pyperf_only(tmp_path):
    run = bench_run.run([bench_run.Table(scenario="s", title="s", unit="request", rows=[bench_run.row("x", 0.0, 2.0)])])
    store.write(run, tmp_path / "x.json")
    assert pyperf.BenchmarkSuite.load(str(tmp_path / "x.json")).get_benchmark("s/x").get_nvalue() == 1
    assert len(store.read(tmp_path / "x.json").tables[0].rows[0].samples) == 2


def test_a_run_without_any_figure_is_kept(tmp_path):
    store.write(bench_run.run([]), tmp_path / "x.json")
    assert store.read(tmp_path / "x.json") == bench_run.run([])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[]", 'has no "fastasgi.bench"'),
        ('{"version": "1.0", "benchmarks": []}', 'has no "fastasgi.bench"'),
        ('{"fastasgi.bench": {"machine": {}}}', "has another form"),
        ('{"fastasgi.bench": []}', "has another form"),
    ],
)
def test_what_is_no_run_is_told_in_one_sentence(tmp_path, text, told):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=told) as caught:
        store.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_pyperf_is_told_with_its_cure(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyperf", None)
    with pytest.raises(ValueError, match=r"pip install 'fastasgi\[bench\]'"):
        store.require_pyperf()
    with pytest.raises(ValueError, match="pyperf"):
        store.write(bench_run.run(), tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_reading_needs_no_pyperf(recorded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyperf", None)
    assert store.read(recorded).tables


def test_the_file_is_the_same_each_time(recorded, tmp_path):
    store.write(store.read(recorded), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == recorded.read_text()
    assert json.loads(recorded.read_text())["version"] == "1.0"
