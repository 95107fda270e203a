"""The compiled modules pass their unit tests when built with the address and undefined-behavior sanitizers.

Python is not built with them, so their runtime libraries are preloaded. PYTHONMALLOC=malloc gives each buffer its own
allocation with guarded ends. Leaks are not reported: the interpreter itself frees little when it exits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.processes import ROOT

SOURCES = sorted((ROOT / "gateway" / "lobby_gateway").rglob("*.c"))
FLAGS = (
    "-shared",
    "-fPIC",
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
SECONDS = 240.0  # takes a few on an idle machine
RUNTIMES = ("libasan.so", "libubsan.so")
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
    "PYTHONPATH": str(ROOT),
}
FAULTS = """
#include <limits.h>
#include <stdlib.h>
int beyond_the_end(int size) {
    char *bytes = malloc((size_t)size);
    bytes[size] = 1;
    int first = bytes[0];
    free(bytes);
    return first;
}
int overflow(int size) { return INT_MAX + size; }
"""


def compiler() -> str:
    """The C compiler."""
    for name in (sysconfig.get_config_var("CC"), "cc", "gcc"):
        if name and (found := shutil.which(name.split()[0])):
            return found
    pytest.skip("no C compiler")


@pytest.fixture(scope="module")
def runtimes() -> str:
    """The runtime libraries of the sanitizers, as LD_PRELOAD takes them."""
    paths = []
    for name in RUNTIMES:
        done = subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        path = Path(done.stdout.strip())
        if not path.is_absolute():
            pytest.skip(f"the C compiler has no {name}")
        paths.append(str(path.resolve()))
    return " ".join(paths)


def build(source: Path, target: Path) -> Path:
    """Compiles a source file with the sanitizers."""
    includes = sysconfig.get_paths()["include"]
    if not (Path(includes) / "Python.h").exists():
        pytest.skip("no headers of Python")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler(), *FLAGS, f"-I{includes}", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(*arguments: str, runtimes: str, added: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python with the sanitizers' libraries."""
    environment = {**os.environ, **ENVIRONMENT, "LD_PRELOAD": runtimes, **(added or {})}
    environment.pop("LOBBY_PURE_PYTHON", None)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def unit_tests_of_compiled_modules() -> list[str]:
    """Files of unit tests that run over compiled code."""
    files = (ROOT / "tests" / "unit").rglob("test_*.py")
    return sorted(str(each) for each in files if "tests.support.compiled" in each.read_text())


@pytest.mark.timeout(SECONDS + 60)
def test_compiled_modules_pass_their_unit_tests(tmp_path: Path, runtimes: str) -> None:
    assert SOURCES, "no compiled module"
    modules = {}
    for source in SOURCES:
        name = ".".join(source.relative_to(ROOT / "gateway").with_suffix("").parts)
        modules[name] = str(build(source, tmp_path / source.with_suffix(".abi3.so").name))
    done = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.support.sanitized"),
        *unit_tests_of_compiled_modules(),
        runtimes=runtimes,
        added={"SANITIZED_MODULES": json.dumps(modules)},
    )
    output = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, output
    assert " passed" in output, output
    assert "skipped" not in done.stdout.splitlines()[-1], output
    assert "Sanitizer" not in output, output
    assert "runtime error" not in output, output


@pytest.mark.parametrize(
    ("function", "report"),
    [("beyond_the_end", "AddressSanitizer: heap-buffer-overflow"), ("overflow", "signed integer overflow")],
)
def test_the_sanitizers_report_faults(tmp_path: Path, runtimes: str, function: str, report: str) -> None:
    """Otherwise the test above would pass whatever the modules do."""
    source = tmp_path / "faults.c"
    source.write_text(FAULTS)
    library = build(source, tmp_path / "faults.so")
    done = python("-c", f"import ctypes; ctypes.CDLL({str(library)!r}).{function}(8)", runtimes=runtimes)
    assert done.returncode != 0
    assert report in done.stderr
