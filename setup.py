"""Build of the compiled part; everything static stands in `pyproject.toml`.

Each `_*.pyx` below `fastasgi/` is one extension module. Our C (`csrc/fa_*.c`) and the fetched C (`csrc/llhttp/`) are
one static library each, with warnings of their own, linked into every module that uses them. Switches in the
environment:

    FASTASGI_DEBUG=1      asserts, bounds checks, FA_DEBUG=1, -O1 -g
    FASTASGI_SANITIZE=1   the same under the address and undefined-behaviour sanitizers
    FASTASGI_COVERAGE=1   Cython's line tracing
    FASTASGI_LTO=1        link-time optimisation, for release wheels

Each combination has its own folders below `build/`, so no object file is ever shared between two of them.
"""

import os
import sys
import threading
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError
from setuptools.modified import newer_group

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))
import vendor  # noqa: E402  (stands beside the C it fetches)

KNOWN_SWITCHES = ("DEBUG", "SANITIZE", "COVERAGE", "LTO")
SWITCHES = [name for name in KNOWN_SWITCHES if os.environ.get(f"FASTASGI_{name}", "0") not in ("", "0")]
MODE = "-".join(SWITCHES).lower() or "release"
DEBUG = "DEBUG" in SWITCHES or "SANITIZE" in SWITCHES

MACROS = [("FA_DEBUG", "1")] if DEBUG else [("FA_DEBUG", "0"), ("CYTHON_WITHOUT_ASSERTIONS", "1")]
if "COVERAGE" in SWITCHES:
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]

DIRECTIVES = {"language_level": "3", "binding": False}
if DEBUG:
    DIRECTIVES |= {"boundscheck": True, "nonecheck": True, "initializedcheck": True}
if "COVERAGE" in SWITCHES:
    DIRECTIVES |= {"linetrace": True}

# Warnings are errors in what we write. Cython's generated code needs these exceptions: utility functions it does not
# use, parameters and slots it leaves out, and the casts of METH_NOARGS and METH_O functions to PyCFunction.
WARN = ["-Wall", "-Wextra", "-Werror"]
WARN_OWN = [*WARN, "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wno-sign-conversion"]
WARN_CYTHON = [
    *WARN,
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
    "-Wno-sign-compare",
    "-Wno-unknown-warning-option",
]
WARN_FETCHED = ["-Wno-unused-parameter", "-Wno-unused-variable", "-Wno-unused-but-set-variable"]
LINUX_ONLY = ("/_socket.pyx", "/_listener.pyx", "/_poller.pyx", "/_orphan.pyx", "/bench/_application.pyx",
              "/bench/_load.pyx", "/bench/_http.pyx", "/bench/_websocket.pyx")  # epoll
INCLUDE = ["csrc", "csrc/llhttp/include", "fastasgi/bench/native"]


def compile_flags(compiler_type):
    """Flags of this mode for all our C; they come after the interpreter's own, so they win."""
    if compiler_type == "msvc":
        return ["/Od", "/Zi"] if DEBUG else ["/O2"]
    if DEBUG:
        flags = ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"]
    else:
        flags = ["-O3", "-g0", "-fno-semantic-interposition"]
    flags += ["-fvisibility=hidden"]
    if "SANITIZE" in SWITCHES:
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if "LTO" in SWITCHES:
        # Fat objects, so that a plain `ar` can index the static libraries.
        flags += ["-flto"] if sys.platform == "darwin" else ["-flto=auto", "-ffat-lto-objects"]
    return flags


def link_flags(compiler_type):
    """Flags of this mode for linking the modules."""
    if compiler_type == "msvc":
        return ["/DEBUG"] if DEBUG else []
    # llhttp marks its functions as exported; a module of another package must not find ours, nor we theirs.
    flags = ["-Wl,--exclude-libs,ALL"] if sys.platform.startswith("linux") else []
    if "SANITIZE" in SWITCHES:
        flags += ["-fsanitize=address,undefined"]
    if "LTO" in SWITCHES:
        flags += ["-flto" if sys.platform == "darwin" else "-flto=auto", "-O3"]
    return flags


def warnings(compiler_type, flags):
    """The warning flags, for compilers that understand them."""
    return [] if compiler_type == "msvc" else flags


def fetch_sources():
    """Make sure of the fetched C, or end with one sentence."""
    try:
        vendor.ensure()
    except vendor.VendorError as problem:
        raise SystemExit(f"error: {problem}") from None


def listed(pattern):
    """Paths relative to the root, as setuptools wants them, in a fixed order."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


class Build(build):
    """Gives every mode its own folders."""

    def finalize_options(self):
        super().finalize_options()
        self.build_temp += f"-{MODE}"
        if self.build_lib == self.build_platlib:
            self.build_lib += f"-{MODE}"
        self.build_platlib += f"-{MODE}"


class BuildLibraries(build_clib):
    """Builds the static libraries `fa` (ours) and `llhttp` (fetched)."""

    def build_libraries(self, libraries):
        fetch_sources()
        kind = self.compiler.compiler_type
        for _, info in libraries:
            info["cflags"] = [*compile_flags(kind), *warnings(kind, info["warnings"])]
            info["macros"] = MACROS
            info["obj_deps"] = {"": ["setup.py", *listed("csrc/*.h"), *listed("csrc/llhttp/include/*.h")]}
        super().build_libraries(libraries)


class BuildModules(build_ext):
    """Builds the extension modules: translated one at a time, compiled in parallel, and only what is stale."""

    translating = threading.Lock()  # Cython's compiler keeps process-wide state

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        self.run_command("build_clib")
        super().run()

    def build_extensions(self):
        from Cython.Compiler import Options

        Options.warning_errors = True
        kind = self.compiler.compiler_type
        libraries = self.get_finalized_command("build_clib")
        archives = [
            self.compiler.library_filename(name, output_dir=libraries.build_clib)
            for name in libraries.get_library_names()
        ]
        for extension in self.extensions:
            extension.define_macros = MACROS
            extension.extra_compile_args = [*compile_flags(kind), *warnings(kind, WARN_CYTHON)]
            extension.extra_link_args = link_flags(kind)
            # As objects and not only as -l names, so that a changed library links its users anew.
            extension.extra_objects = archives
            extension.depends = [*extension.depends, *archives]
        self.compiler.compile = self.compile_stale(self.compiler.compile)
        super().build_extensions()

    def copy_extensions_to_source(self):
        self.force = True  # what stands there may be newer, but of another mode
        super().copy_extensions_to_source()

    def compile_stale(self, compile_all):
        """Wrap the compiler so that an object newer than its source and the headers is kept, and only linked anew."""

        def compile_some(sources, output_dir=None, depends=(), **options):
            headers = ["setup.py", *(name for name in depends if name.endswith((".h", ".c")))]
            objects = self.compiler.object_filenames(sources, output_dir=output_dir)
            stale = [s for s, o in zip(sources, objects) if self.force or newer_group([s, *headers], o)]
            if stale:
                compile_all(stale, output_dir=output_dir, **options)
            return objects

        return compile_some

    def build_extension(self, extension):
        with self.translating:
            extension.sources = self.translate(Extension(extension.name, extension.sources))
        super().build_extension(extension)

    def translate(self, extension):
        """Have Cython make C, if the module or something it cimports changed; return the names of the C files."""
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError as Refused

        try:
            (translated,) = cythonize(
                extension,
                # Generated C depends on the mode, so it lives in the mode's folder; except that coverage looks for
                # it beside the source.
                build_dir=None if "COVERAGE" in SWITCHES else self.build_temp,
                compiler_directives=DIRECTIVES,
                include_path=[".", *INCLUDE],
                force=bool(self.force),
                quiet=True,
            )
        except Refused:
            raise CompileError(f"Cython does not accept {extension.sources[0]}") from None
        return translated.sources


class SourceDistribution(sdist):
    """Bundles the fetched C, so that building from it needs nothing else."""

    def run(self):
        fetch_sources()
        super().run()


def modules():
    """One extension for each `_*.pyx` below `fastasgi/`; what uses epoll exists on Linux only."""
    depends = [*listed("fastasgi/**/*.pxd"), *listed("csrc/*.h"), "csrc/llhttp/include/llhttp.h"]
    included = {"fastasgi/bench/_application.pyx": ["fastasgi/bench/native/floor.c"]}
    for source in listed("fastasgi/**/_*.pyx"):
        if source.endswith(LINUX_ONLY) and not sys.platform.startswith("linux"):
            continue
        name = source.removesuffix(".pyx").replace("/", ".")
        yield Extension(name, [source], include_dirs=INCLUDE, depends=[*depends, *included.get(source, [])])


def static_libraries():
    """Our C and the fetched C; each with its own warnings."""
    fetched = [f"csrc/llhttp/src/{name}.c" for name in ("api", "http", "llhttp")]
    own = listed("csrc/fa_*.c")
    if own:
        yield "fa", {"sources": own, "include_dirs": INCLUDE, "warnings": WARN_OWN}
    yield "llhttp", {"sources": fetched, "include_dirs": INCLUDE, "warnings": WARN_FETCHED}


os.chdir(ROOT)
setup(
    license_files=[*listed("LICENSE"), *listed("csrc/llhttp/LICENSE*")],
    ext_modules=list(modules()),
    libraries=list(static_libraries()),
    cmdclass={"build": Build, "build_clib": BuildLibraries, "build_ext": BuildModules, "sdist": SourceDistribution},
)
