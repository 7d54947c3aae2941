"""Lines between `# hot` and `# end hot` work without Python objects: `cython -a` scores none of them above 1.

A score counts what the generated C of a line calls of Python: 0 is plain C, 1 is one macro. The marks stand around the
loops over bytes and tables, where one careless type would turn C into Python without any test failing.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_SCORE = 1
BEGIN = re.compile(r"^\s*# hot\b", re.MULTILINE)
MARKED = [path for path in sorted(ROOT.glob("fastasgi/**/_*.pyx")) if BEGIN.search(path.read_text(encoding="utf-8"))]


def hot_lines(text):
    """Numbers of the lines between the marks."""
    hot, inside = set(), False
    for number, line in enumerate(text.splitlines(), 1):
        mark = line.strip()
        if mark.startswith("# hot"):
            assert not inside, f"line {number}: a second # hot before # end hot"
            inside = True
        elif mark == "# end hot":
            assert inside, f"line {number}: # end hot without # hot"
            inside = False
        elif inside:
            hot.add(number)
    assert not inside, "# hot without # end hot"
    return hot


def scores(source, folder):
    """Scores of the lines of a module, as `cython -a` gives them."""
    command = [sys.executable, "-m", "cython", "-3", "--annotate", "-X", "binding=False", "-I", str(ROOT)]
    command += ["-I", str(ROOT / "csrc"), "-o", str(folder / (source.stem + ".c")), str(source)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (folder / (source.stem + ".html")).read_text(encoding="utf-8")
    found = re.findall(r'<pre class="cython line score-(\d+)"[^>]*>\+?<span class="">(\d+)</span>', page)
    return {int(number): int(score) for score, number in found}


@pytest.mark.parametrize("source", MARKED, ids=lambda path: path.name)
def test_hot_lines_are_plain_c(source, tmp_path):
    hot = hot_lines(source.read_text(encoding="utf-8"))
    above = {line: score for line, score in scores(source, tmp_path).items() if line in hot and score > MAX_SCORE}
    assert not above, f"{source.name}: score of each line that is more than C: {above}"


def test_the_reader_of_scores(tmp_path):
    source = tmp_path / "x.pyx"
    function = "cdef int f(int a) noexcept nogil:\n    # hot\n    a += 1\n    # end hot\n    return a\n\n\n"
    source.write_text(function + "x = {}\nx[1] = 2\n")
    found = scores(source, tmp_path)
    assert hot_lines(source.read_text()) == {3}
    assert found[3] == 0
    assert found[9] > MAX_SCORE
