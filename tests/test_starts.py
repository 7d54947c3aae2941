"""Which tests count as starting processes: what of theirs names `subprocess`, near or far."""

import subprocess

import process
import pytest
from process import running
from starts import named_by, starts_processes


def near():
    return subprocess.run(["true"])


def far():
    with running("hello"):
        pass


def farther():
    return far


def by_module():
    return process.Process()


def within():
    def inner():
        import subprocess as sub

        return sub

    return inner


class Kept:
    @property
    def child(self):
        return near()


def by_class():
    return Kept()


def nothing():
    return len(str(process)) + named_by.cache_info().hits


@pytest.fixture
def named():
    return near


@pytest.mark.parametrize("function", [near, far, farther, by_module, within, by_class])
def test_what_starts_processes(function):
    assert starts_processes([nothing, function])


def test_what_does_not():
    assert not starts_processes([nothing, test_what_does_not])


def test_marked_by_what_it_names(request):
    assert request.node.get_closest_marker("process") is not None, near


def test_marked_by_what_its_fixture_names(request, named):
    assert request.node.get_closest_marker("process") is not None


def test_not_marked(request):
    assert request.node.get_closest_marker("process") is None
