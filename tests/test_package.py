"""What the package promises as a whole: a fast import, a readable size, imports that never point up."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.slowness import slowness

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minires"
CORE = [*PACKAGE.glob("ops/*.py"), *PACKAGE.glob("nn/*.py"), *PACKAGE.glob("init/*.py"), PACKAGE / "optim.py"]


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_import_takes_less_than_three_tenths_of_a_second():
    """Of processor on a machine like ours, the best of five fresh interpreters."""
    code = "import time; start = time.process_time(); import minires; print(time.process_time() - start)"
    assert min(float(run_python(code)[0]) for _ in range(5)) < 0.3 * slowness()


@pytest.mark.parametrize("modules", ["minires", "minires.ops, minires.nn, minires.init, minires.optim"])
def test_import_loads_nothing_heavy(modules):
    heavy = {"matplotlib", "rich", "cupy", "torch", "pooch", "safetensors", "scipy", "pandas"}
    loaded = run_python(f"import sys, {modules}; print(*sys.modules)")
    assert not heavy & {name.partition(".")[0] for name in loaded}


def code_lines(path):
    """Physical lines that hold code: no docstrings (strings that stand alone), no comments, no blank lines."""
    source = path.read_text()
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, node.end_lineno + 1))
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


EXAMPLE = '''"""Prose."""

from os import (
    path,
)

x = 1  # a comment
def f():
    """Two
    lines."""
    return (
        x
    )
'''


def test_the_counter_counts_code_alone(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(EXAMPLE)
    assert code_lines(path) == 8


GPU = PACKAGE / "fast" / "gpu.py"
FAST = [path for path in PACKAGE.glob("fast/*.py") if path != GPU]


@pytest.mark.parametrize(("files", "most"), [(CORE, 1370), (FAST, 700), ([GPU], 200)], ids=["engine", "fast", "gpu"])
def test_what_a_student_reads_stays_short(files, most):
    assert sum(map(code_lines, files)) <= most, {str(p.relative_to(PACKAGE)): code_lines(p) for p in files}


@pytest.mark.parametrize("path", CORE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_function_fits_one_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 45, f"{path.name}: {node.name}"


ALLOWED = {  # who may import whom: DESIGN's arrows, from below to above
    "backend": set(),
    "checks": {"backend"},
    "ops": {"backend", "checks"},
    "init": {"backend", "checks", "pretrained"},
    "pretrained": {"checks"},
    "printing": set(),
    "nn": {"backend", "checks", "printing", "ops", "init"},
    "optim": {"backend", "checks", "nn"},
    "threads": {"backend"},
    "terminal": set(),
    "changes": {"nn"},
    "fast": {"backend", "changes", "checks", "nn", "threads"},
    "gradcheck": {"backend", "checks", "ops", "nn", "terminal"},
    "theory": {"backend", "checks", "ops", "init", "nn", "threads"},
    "parallel": {"backend", "ops", "nn", "fast", "threads", "workers"},
    "train": {"__version__", "backend", "checks", "printing", "files", "nn", "optim", "data", "checkpoint", "threads"}
    | {"compile", "parallel"},
}


def imported_parts(path):
    """The parts of minires that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "minires":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minires."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("minires."))


@pytest.mark.parametrize("part", ALLOWED)
def test_no_arrow_points_up(part):
    files = list((PACKAGE / part).rglob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
    assert files
    for path in files:
        assert set(imported_parts(path)) <= ALLOWED[part] | {part}, path


def test_nothing_else_lies_at_the_top():
    """A file that a command or a test left behind, and somebody committed."""
    listed = subprocess.run(["git", "ls-files", "--full-name", ":/"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("no git repository here to ask")
    top = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    allowed = {"minires", "tests", "tutorials", "pyproject.toml", "README.md", "LICENSE"}
    assert {name for name in top if not name.startswith(".")} == allowed
