"""The rules of the compiled line that no compiler holds for us, read from the sources.

Each reader has a test of its own at the end: a reader that finds nothing would pass everything.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60

CYTHON = sorted([*ROOT.glob("fastasgi/**/*.pyx"), *ROOT.glob("fastasgi/**/*.pxd")])
PYX = [path for path in CYTHON if path.suffix == ".pyx"]
C = sorted([*ROOT.glob("csrc/*.c"), *ROOT.glob("csrc/*.h")])
BENCH_C = sorted([*ROOT.glob("bench/*.c"), *ROOT.glob("fastasgi/bench/native/*.c")])
PYTHON = sorted(
    path
    for folder in ("fastasgi", "csrc", "bench", "examples", "tests")
    for path in ROOT.glob(f"{folder}/**/*.py")
    if "llhttp" not in path.parts and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
PYTHON.append(ROOT / "setup.py")

CDEF = re.compile(r"\s*c(p?def|typedef)\s+(?!class\b|enum\b|struct\b|union\b|packed\b)")
OBJECT_TYPES = {"object", "bytes", "bytearray", "str", "list", "tuple", "dict", "set", "frozenset", "type", "slice"}
MODIFIERS = {"inline", "api", "public", "readonly", "final"}


def name_of(path):
    """A file's name in a report."""
    return path.relative_to(ROOT).as_posix()


def each(paths):
    """Parametrize by files, named by their paths; an empty list is an error of the test, not a pass."""
    return pytest.mark.parametrize("path", paths, ids=name_of)


# ------------------------------------------------------------------------------------------ readers


def without_comments(text):
    """Cython source with strings of documentation and comments blanked, line numbers kept."""

    def blank(match):
        return "\n" * match[0].count("\n")

    return re.sub(r'"""[\s\S]*?"""|(?<!["\'])#[^\n"\']*$', blank, text, flags=re.MULTILINE)


def cdef_functions(text):
    """(line, declaration) of each cdef or cpdef function, without those of `cdef extern` blocks."""
    lines = without_comments(text).splitlines()
    extern_indent = None
    at = 0
    while at < len(lines):
        line = lines[at]
        indent = len(line) - len(line.lstrip())
        if line.strip() and extern_indent is not None and indent <= extern_indent:
            extern_indent = None
        if re.match(r"\s*cdef extern\b", line):
            extern_indent = indent
        start = at
        if extern_indent is None and CDEF.match(line):
            while line.count("(") > line.count(")") and at + 1 < len(lines):
                at += 1
                line += " " + lines[at].strip()
            before = line.partition("(")[0]
            if "(" in line and "=" not in before:
                yield start + 1, " ".join(line.split())
        at += 1


def states_failure(declaration, classes):
    """Whether a cdef function says how it fails, or returns an object and so needs no word."""
    head, _, rest = declaration.partition("(")
    if rest.startswith("*"):  # a pointer to a function
        head += " x"
        is_object = False
    else:
        words = [word for word in head.split()[1:] if word not in MODIFIERS]
        returned = " ".join(words[:-1])
        is_object = "*" not in head and (not returned or returned.split("[")[0] in OBJECT_TYPES | classes)
    tail = declaration[declaration.rindex(")") :] if declaration.count("(") == 1 else declaration
    clause = re.search(r"\)\s*(nogil\s+)?(noexcept|except)\b", tail)
    return is_object or clause is not None


def extension_classes(text):
    """(name, base or None, whether final) of each cdef class that has a body here."""
    pattern = r"((?:^[ \t]*@[\w.]+(?:\([^)]*\))?\n)*)^cdef class (\w+)(?:\(([\w., ]+)\))?:"
    for match in re.finditer(pattern, without_comments(text), re.MULTILINE):
        yield match[2], match[3], "cython.final" in match[1] or "@final" in match[1]


def python_functions(text):
    """(name, lines of code) of each function, without documentation, comments and blank lines."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            skip = range(first.lineno, first.end_lineno + 1) if ast.get_docstring(node) is not None else range(0)
            body = [lines[n - 1] for n in range(node.lineno, node.end_lineno + 1) if n not in skip]
            yield node.name, code_lines(body)


def cython_functions(text):
    """(name, lines of code) of each function with a body, by indentation."""
    lines = without_comments(text).splitlines()
    start = re.compile(r"\s*(?:c?p?def|async def)\s+(?!class\b|enum\b|struct\b|extern\b|union\b)[^=]*?(\w+)\s*\(")
    for at, line in enumerate(lines):
        match = start.match(line)
        if match is None:
            continue
        indent = len(line) - len(line.lstrip())
        end = at + 1
        while end < len(lines):
            text_here = lines[end].strip()
            if text_here and len(lines[end]) - len(lines[end].lstrip()) <= indent and not text_here.startswith(")"):
                break
            end += 1
        yield match[1], code_lines(lines[at:end])


def c_functions(text):
    """(name, whether static, lines of code) of each function definition, by the brace in the first column."""
    text = re.sub(r"/\*[\s\S]*?\*/", lambda match: "\n" * match[0].count("\n"), text)
    pattern = r"^(?!typedef|struct|enum|union|#)(\w[^;{}=]*?)\b(\w+)\(([^;{}]*)\)\s*\{([\s\S]*?)^\}"
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield match[2], "static" in match[1], code_lines(match[0].splitlines())


def code_lines(lines):
    """Count the lines that hold code."""
    return sum(1 for line in lines if line.strip() and not line.strip().startswith(("#", "//", "*")))


def too_long(functions):
    """Names and lengths of functions over the limit."""
    return {function[0]: function[-1] for function in functions if function[-1] > MAX_FUNCTION_LINES}


# -------------------------------------------------------------------------------------------- rules


@each([*CYTHON, *C, *BENCH_C, *PYTHON])
def test_no_file_is_too_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES


@each(PYTHON)
def test_no_python_function_is_too_long(path):
    assert not too_long(python_functions(path.read_text(encoding="utf-8")))


@each(PYX)
def test_no_cython_function_is_too_long(path):
    assert not too_long(cython_functions(path.read_text(encoding="utf-8")))


@each([*C, *BENCH_C])
def test_no_c_function_is_too_long(path):
    assert not too_long(c_functions(path.read_text(encoding="utf-8")))


@each(CYTHON)
def test_every_cdef_states_its_failure(path):
    classes = {name for source in CYTHON for name, _, _ in extension_classes(source.read_text(encoding="utf-8"))}
    silent = [
        f"{name_of(path)}:{line}: {declaration}"
        for line, declaration in cdef_functions(path.read_text(encoding="utf-8"))
        if not states_failure(declaration, classes)
    ]
    assert not silent


def test_leaf_classes_are_final():
    found = [cls for path in CYTHON for cls in extension_classes(path.read_text(encoding="utf-8"))]
    bases = {base.rpartition(".")[2] for _, base, _ in found if base}
    final = {name for name, _, is_final in found if is_final}  # the word stands in the .pyx or in the .pxd
    assert found
    assert not {name for name, _, _ in found} - bases - final


@each(PYX)
def test_modules_run_without_the_global_lock(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# cython:")
    assert "freethreading_compatible=True" in first


@each(PYX)
def test_checks_are_not_switched_off_for_a_whole_module(path):
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# cython:")]
    off = re.findall(r"(?:boundscheck|wraparound|initializedcheck|overflowcheck)\s*=\s*False", " ".join(head))
    assert not off


@each(PYX)
def test_each_module_has_its_table_of_contents(path):
    assert path.with_suffix(".pxd").exists()


def test_stubs_stand_where_python_imports():
    used = set()
    for path in ROOT.glob("fastasgi/**/*.py"):
        used |= set(re.findall(r"\b(_[a-z0-9]\w*)\b", path.read_text(encoding="utf-8")))
    for path in ROOT.glob("fastasgi/**/_*.pyi"):
        assert path.with_suffix(".pyx").exists(), f"{path.name} is the stub of nothing"
        assert path.stem in used, f"no Python file imports {path.stem}: its stub is not needed"


@each(C)
def test_our_c_knows_no_python_and_no_heap(path):
    text = path.read_text(encoding="utf-8")
    assert "Python.h" not in text
    assert not re.findall(r"\b(?:malloc|calloc|realloc|free|strdup)\s*\(", text)


@each(C)
def test_our_c_has_no_state(path):
    """A line of the first column that ends in `;` or `= {` and is neither const nor a declaration is a global."""
    text = re.sub(r"/\*[\s\S]*?\*/", "", path.read_text(encoding="utf-8"))
    pattern = r"^(?:static\s+)?(?!static|typedef|enum \{|struct \w+;|extern|#|\})\w[^(\n]*(?:;|=.*)$"
    lines = re.findall(pattern, text, re.MULTILINE)
    assert not [line for line in lines if "const" not in line]


@each(C)
def test_public_c_carries_our_prefix(path):
    for name, is_static, _ in c_functions(path.read_text(encoding="utf-8")):
        assert is_static or name.startswith("fa_"), f"{name} is neither static nor fa_"


# ------------------------------------------------------------------------------- the readers read


def test_the_reader_of_cdef_functions():
    text = '''
cdef extern from "x.h":
    int outside(int a)
    ctypedef int (*callback)(int)

cdef class A(B):
    cdef int number
    cdef int value(self) except -1
    cdef object anything(self, int n)
    cdef silent(self)
    cdef B kind(self)
    cdef void bad(self)
    cdef int long_one(
        self, int a,
        int b,
    ) noexcept nogil
    cpdef char *pointer(self)   # cdef int no(self)

cdef int x = call(3)
ctypedef int (*good)(int) noexcept
ctypedef int (*evil)(int)
'''
    found = {line: states_failure(declaration, {"B"}) for line, declaration in cdef_functions(text)}
    assert found == {8: True, 9: True, 10: True, 11: True, 12: False, 13: True, 17: False, 20: True, 21: False}


def test_the_reader_of_classes():
    text = "@cython.final\n@cython.freelist(8)\ncdef class A(B):\n    pass\ncdef class B:\n    pass\ncdef class C\n"
    assert list(extension_classes(text)) == [("A", "B", True), ("B", None, False)]


def test_the_readers_of_lengths():
    assert list(python_functions('def f():\n    """x\n    y"""\n    # no\n\n    return 1\n')) == [("f", 2)]
    text = (
        "cdef class A:\n    cdef int f(self,\n               int b) except -1:\n        return 1\n\n"
        "    def g(self):\n        pass\n"
    )
    assert list(cython_functions(text)) == [("f", 3), ("g", 2)]
    text = (
        "/* a\n b */\nstatic int f(int a,\n             int b)\n{\n    if (a) {\n        b = 1;\n    }\n"
        "    return b;\n}\n\nint fa_g(void) {\n    return 1;\n}\n"
    )
    assert list(c_functions(text)) == [("f", True, 8), ("fa_g", False, 3)]
