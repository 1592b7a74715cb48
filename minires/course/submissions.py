"""What students hand in, read with care: a .py, a notebook, a zip, or a folder of these.

Nothing is executed or unpacked here. Links are not followed, sizes are limited before anything is read, and a text that
is not UTF-8 is told to its author with the place.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import symtable
import textwrap
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from minires.course.declaration import ORDER, Assignment, load
from minires.gradcheck.process import printable

LARGEST = 2 << 20
"""Bytes of one file; a longer one is not read."""

LONGEST = 1 << 18
"""Characters of code that the grader itself takes apart: its syntax tree takes hundreds of times as many bytes."""

MOST_FILES = 2000
"""Files of a folder or zip that are looked at."""


class Unreadable(Exception):
    """Why a submission cannot be graded, for its author."""


@dataclass
class Submission:
    """One student's files for one assignment, by the names of the assignments."""

    id: str
    path: Path
    texts: dict[str, str] = field(default_factory=dict)
    """Assignment's name -> Python source; the assignment itself and earlier ones that were handed in with it."""
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    """Why there is nothing to grade."""


def read(path: Path, a: Assignment) -> Submission:
    """The submission at `path`: never raises for what a student may hand in; `problem` says what is wrong."""
    found = Submission(printable(path.stem if path.is_file() else path.name), path)
    try:
        files = _files(path)
        found.texts[a.name] = _text(files, a, found.notes)
        for earlier in map(load, a.needs):
            if any(PurePosixPath(f).stem == earlier.name for f in files):
                found.texts[earlier.name] = _text(files, earlier, found.notes)
        found.notes += _unread(files, a)
    except (Unreadable, OSError, zipfile.BadZipFile, RecursionError, ValueError, RuntimeError) as error:
        found.problem = printable(str(error) or type(error).__name__)
    found.notes = [printable(note) for note in found.notes]
    return found


Files = dict[str, bytes | str]
"""Name -> content, or a sentence that says why it was not read."""


def _files(path: Path) -> Files:
    if path.is_symlink():
        raise Unreadable("the submission is a symbolic link; hand in the file itself")
    if path.is_dir():
        return _folder(path)
    if zipfile.is_zipfile(path) and path.suffix == ".zip":
        return _zip(path)
    return {path.name: _content(path)}


def _content(path: Path) -> bytes | str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return f"{path.name} is a link or no ordinary file; hand in the file itself"
    if status.st_size > LARGEST:
        return f"{path.name} has {status.st_size:,} bytes; at most {LARGEST:,} are read"
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle, "rb") as file:
        return file.read(LARGEST + 1)


def _folder(folder: Path) -> Files:
    found: Files = {}
    for place, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            if len(found) >= MOST_FILES:
                return found
            if name.endswith((".py", ".ipynb")):
                found.setdefault(name, _content(Path(place) / name))
            elif name.endswith(".zip") and Path(place) == folder:
                inside = Path(place) / name
                if not inside.is_symlink() and zipfile.is_zipfile(inside):
                    found = _zip(inside) | found
    return found


def _zip(path: Path) -> Files:
    """The Python files and notebooks of an archive. Sizes are those of the directory, and reading stops there."""
    found: Files = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist()[:MOST_FILES]:
            name = PurePosixPath(entry.filename).name
            if entry.is_dir() or not name.endswith((".py", ".ipynb")) or name.startswith("._"):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                found[name] = f"{name} is a symbolic link; hand in the file itself"
            elif entry.file_size > LARGEST:
                found[name] = f"{name} has {entry.file_size:,} bytes; at most {LARGEST:,} are read"
            else:
                with archive.open(entry) as file:
                    content = file.read(LARGEST + 1)
                found[name] = content if len(content) <= LARGEST else f"{name} is longer than its zip says"
    return found


def _text(files: Files, a: Assignment, notes: list[str]) -> str:
    """The source for one assignment: NAME.py, else NAME.ipynb, else the only file there is."""
    name = a.name
    chosen = next((n for n in (f"{name}.py", f"{name}.ipynb") if n in files), None)
    if chosen is None:
        others = [n for n in files if not n.startswith("test_")]
        if len(others) != 1:
            listed = ", ".join(sorted(files)[:10]) or "nothing that could be read"
            raise Unreadable(f"there is no {name}.py in the submission; it holds {listed}")
        chosen = others[0]
        notes.append(f"the file is called {chosen}; expected {name}.py")
    content = files[chosen]
    if isinstance(content, str):
        raise Unreadable(content)
    text = _decoded(content, chosen)
    asked = {part.name for part in a.parts}
    return _notebook(text, chosen, asked, notes) if chosen.endswith(".ipynb") else text


def _unread(files: Files, a: Assignment) -> list[str]:
    """Says of modules that lie beside the file, and that it may import, that they are not there when it is graded."""
    known = {name for each in (*ORDER, a.name) for name in (each, f"test_{each}")}
    others = sorted(n for n in files if n.endswith(".py") and PurePosixPath(n).stem not in known)
    if not others or f"{a.name}.py" not in files:
        return []
    return [f"only {a.name}.py is graded: put into it what it needs of {', '.join(others[:5])}"]


def _decoded(content: bytes, name: str) -> str:
    for encoding in ("utf-8-sig", "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            problem = f"{name} is not UTF-8 text: line {line}, byte {content[error.start]:#x}. Save it as UTF-8"
        else:
            if "\0" in text:
                raise Unreadable(f"{name} holds NUL characters: it is no Python file")
            return text
    raise Unreadable(problem)


def _notebook(text: str, name: str, asked: set[str], notes: list[str]) -> str:
    """What the code cells of a notebook define. Cells that do not parse are left out, and named.

    Of a function that several cells define, the last one that is more than a stub counts: a copied stub undoes nothing.
    Of assignments, those that make a function that is asked for, or what a function needs: the others are trials, which
    may take long, or fail here.
    """
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise Unreadable(f"{name} is no notebook that could be read (its JSON is damaged)") from None
    found: list[ast.stmt] = []
    for number, source in enumerate(sources, 1):
        try:
            found += _statements(source)
        except (SyntaxError, ValueError) as error:
            notes.append(f"code cell {number} of {name} was left out: {error}")
        except (RecursionError, MemoryError):  # what Python's parser says to a thousand brackets
            notes.append(f"code cell {number} of {name} was left out: its expressions are nested too deep")
    written = {n.name for n in found if isinstance(n, ast.FunctionDef) and not _is_stub(n)}
    kept = [n for n in found if not (isinstance(n, ast.FunctionDef) and n.name in written and _is_stub(n))]
    needed = _needed(kept, asked)
    chosen = [n for n in kept if not isinstance(n, ASSIGNMENTS) or n in needed]
    return "\n\n".join([_guarded(n) for n in sorted(chosen, key=lambda n: not _is_future(n))]) + "\n"


def _statements(source: str) -> list[ast.stmt]:
    """The imports, definitions and assignments of a cell. Where it is no Python, Jupyter's own lines count as none."""
    if len(source) > LONGEST:
        raise ValueError(f"it has more than {LONGEST:,} characters")
    try:
        tree = ast.parse(source)
    except SyntaxError:
        tree = ast.parse(re.sub(r"(?m)^(\s*)[%!?].*$", r"\1pass", source))
    for node in tree.body:
        ast.unparse(node)  # what is nested too deep shows here
    return [node for node in tree.body if isinstance(node, IMPORTS | DEFINITIONS | ASSIGNMENTS)]


IMPORTS, DEFINITIONS = ast.Import | ast.ImportFrom, ast.FunctionDef | ast.ClassDef
ASSIGNMENTS = ast.Assign | ast.AnnAssign
"""Statements of a notebook that are kept; calls, plots and experiments are not run."""


def _needed(nodes: list[ast.stmt], asked: set[str]) -> set[ast.stmt]:
    """The assignments to names that are asked for, that functions and classes use, or other such assignments."""
    used = set(asked)
    for node in nodes:
        if isinstance(node, DEFINITIONS):
            used |= _globals_of(symtable.symtable(ast.unparse(node), "", "exec"))
    needed, before = set[ast.stmt](), -1
    while len(needed) > before:
        before = len(needed)
        for node in nodes:
            names = {n.id: type(n.ctx) for n in ast.walk(node) if isinstance(n, ast.Name)}
            if isinstance(node, ASSIGNMENTS) and any(name in used for name, ctx in names.items() if ctx is ast.Store):
                needed.add(node)
                used |= {*names}
    return needed


def _globals_of(table: symtable.SymbolTable) -> set[str]:
    own = {s.get_name() for s in table.get_symbols() if table.get_type() == "module" or s.is_global()}
    return own.union(*map(_globals_of, table.get_children()))


def _guarded(node: ast.stmt) -> str:
    """As text; an import or an assignment that fails here shall not take the functions with it."""
    text = ast.unparse(node)
    if isinstance(node, DEFINITIONS) or _is_future(node):
        return text
    return f"try:\n{textwrap.indent(text, '    ')}\nexcept Exception as error:\n    print(repr(error))"


def _is_future(node: ast.stmt) -> bool:
    """Whether it is `from __future__ import ...`, which has to come first."""
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_stub(node: ast.FunctionDef) -> bool:
    """Whether the body is nothing but `raise NotImplementedError`."""
    body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.dump(body[0])
