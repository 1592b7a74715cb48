"""Functions cut out of the engine by their syntax tree: what a student gets, what the solution is.

The engine carries no markers. A **stub** is a function's signature and docstring, a hint, and an error in place of the
body. The module's docstring, in which the derivation stands, goes; so do classes of the module, such as its cache's,
which a student designs anew. A **solution** is the function as it stands, with the helpers and imports it needs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Source:
    """A function of a module, or a method: "minires.ops.conv:conv2d_forward", "minires.optim:SGD.step"."""

    module: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """From "module:function" or "module:Class.method". Raises ValueError for other texts."""
        module, colon, path = text.partition(":")
        if not colon or not path or path.count(".") > 1:
            raise ValueError(f'{text!r} is no source; expected "module:function" or "module:Class.method"')
        return cls(module, path)

    @cached_property
    def loaded(self) -> ModuleType:
        return importlib.import_module(self.module)

    @cached_property
    def text(self) -> str:
        return inspect.getsource(self.loaded)

    @cached_property
    def node(self) -> ast.FunctionDef:
        """The function's syntax tree. ValueError where there is no such function."""
        found = find(ast.parse(self.text), self.path)
        if found is None:
            raise ValueError(f"{self.module} has no function {self.path}")
        return found

    @property
    def function(self) -> object:
        """The function itself: the reference."""
        value = self.loaded
        for name in self.path.split("."):
            value = getattr(value, name)
        return value

    @property
    def is_method(self) -> bool:
        return "." in self.path

    def lines(self, first: int, last: int) -> str:
        return "\n".join(self.text.splitlines()[first - 1 : last])


def find(tree: ast.Module, path: str) -> ast.FunctionDef | None:
    """The function or method at a dotted path."""
    nodes: Iterable[ast.AST] = tree.body
    *classes, name = path.split(".")
    for owner in classes:
        found = next((n for n in nodes if isinstance(n, ast.ClassDef) and n.name == owner), None)
        if found is None:
            return None
        nodes = found.body
    return next((n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == name), None)


def stub(source: Source, name: str, hint: str = "") -> str:
    """The function under the student's name with an error for a body, as text."""
    head = _head(source, name).replace("object | list[object]", "object").replace("Pair | Window", "Pair")
    told = [f"    # Hint: {line}" if i == 0 else f"    # {line}" for i, line in enumerate(textwrap.wrap(hint, 100))]
    return "\n".join([head, *told, f'    raise NotImplementedError("{name}: yours to write")', ""])


def solution(source: Source, name: str) -> str:
    """The function under the student's name, body and all."""
    node = source.node
    first = _body(node)[0].lineno
    rest = source.lines(first, node.end_lineno)
    indent = " " * (node.col_offset + 4)
    comments = _comments_before(source, first)
    return (
        _head(source, name) + "\n" + textwrap.indent(textwrap.dedent(comments + rest), "    ") + "\n" * (indent != "")
    )


def support(sources: Iterable[Source], kept: Iterable[str] = ()) -> str:
    """Imports and helpers of their modules that the bodies of `sources` need, each once. `kept`: names not repeated."""
    imports: dict[str, None] = {}
    helpers: dict[str, None] = {}
    own = {s.path for s in sources if not s.is_method} | set(kept)
    for source in sources:
        tree = ast.parse(source.text)
        _gather(source, tree, _names(source.node), own, imports, helpers, set())
    return "\n".join([*imports, ""]) + "".join(f"\n\n{helper}\n" for helper in helpers)


def bodies(source: Source) -> list[str]:
    """The statements of the body, without the docstring, as normalized text: what must not be given away."""
    flat = []
    for statement in _body(source.node):
        flat += [ast.unparse(n) for n in ast.walk(statement) if isinstance(n, ast.stmt)]
    return flat


def operations(text: str) -> int:
    """How many operations a statement has: calls, arithmetic, comparisons, subscripts."""
    kinds = (ast.Call, ast.BinOp, ast.AugAssign, ast.Compare, ast.Subscript, ast.UnaryOp)
    return sum(isinstance(n, kinds) for n in ast.walk(ast.parse(text)))


def blank(text: str, paths: Iterable[str]) -> str:
    """A module's text with the bodies of some functions replaced by an error: what the student's process sees."""
    tree, lines = ast.parse(text), text.splitlines()
    found = sorted(
        (node for p in dict.fromkeys(paths) if (node := find(tree, p)) is not None),
        key=lambda n: n.lineno,
        reverse=True,
    )
    for node in found:
        body = _body(node)
        indent = " " * (node.col_offset + 4)
        lines[body[0].lineno - 1 : node.end_lineno] = [
            f'{indent}raise NotImplementedError("{node.name}: this is the assignment")'
        ]
    return "\n".join(lines) + "\n"


# --- inside --------------------------------------------------------------------------------------------------------


def _body(node: ast.FunctionDef) -> list[ast.stmt]:
    """The statements after the docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body


def _head(source: Source, name: str) -> str:
    """Signature and docstring, dedented; classes of the module become `object` in the annotations."""
    node = source.node
    documented = ast.get_docstring(node) is not None
    last = node.body[0].end_lineno if documented else node.body[0].lineno - 1
    while not documented and source.lines(last, last).strip().startswith("#"):
        last -= 1
    text = textwrap.dedent(source.lines(node.lineno, last))
    text = re.sub(rf"^def {node.name}\(", f"def {name}(", text, count=1)
    signature, arrow, rest = text.partition('"""') if documented else (text, "", "")
    for n in ast.parse(source.text).body:
        if isinstance(n, ast.ClassDef):
            signature = re.sub(rf"\b{n.name}\b", "object", signature)
    return signature + arrow + rest


def _comments_before(source: Source, line: int) -> str:
    """The lines of comments directly above a statement."""
    above = []
    while source.lines(line - 1, line - 1).strip().startswith("#"):
        line -= 1
        above.insert(0, source.lines(line, line))
    return "".join(f"{comment}\n" for comment in above)


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _gather(
    source: Source,
    tree: ast.Module,
    names: set[str],
    own: set[str],
    imports: dict[str, None],
    helpers: dict[str, None],
    done: set[str],
) -> None:
    """Adds what `names` mean at the top of the module, and what that needs in turn."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            for alias in node.names:
                if (alias.asname or alias.name).partition(".")[0] in names:
                    imports[_absolute(node, alias, source.module)] = None
        for name in _defined(node) & names - own - done:
            done.add(name)
            _gather(source, tree, _names(node), own, imports, helpers, done)
            helpers[source.lines(min([node.lineno, *_decorators(node)]), node.end_lineno)] = None


def _absolute(node: ast.Import | ast.ImportFrom, alias: ast.alias, module: str) -> str:
    """One import as a line that holds anywhere: `from .nn import Layer` becomes `from minires.nn import Layer`."""
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import([alias]))
    parents = module.split(".")[: -node.level] if node.level else []
    return ast.unparse(ast.ImportFrom(".".join([*parents, *filter(None, [node.module])]), [alias], 0))


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return set()


def _decorators(node: ast.stmt) -> list[int]:
    return [d.lineno for d in getattr(node, "decorator_list", [])]


# --- the package that the student's process sees -------------------------------------------------------------------

ROOMS = ("__init__", "backend", "checks", "checkpoint", "data", "files", "init", "nn", "ops", "optim", "pretrained")
ROOMS += ("printing", "threads", "train")
"""What training a network needs. The other rooms of minires hold other versions of the ops, solutions of exercises, or
what a check is made of."""


def stripped_package(folder: Path, sources: Iterable[Source]) -> None:
    """Writes minires into `folder`, the `ROOMS` alone, the functions `sources` blanked."""
    import minires

    home = Path(minires.__file__).parent
    asked: dict[Path, list[str]] = {}
    for source in sources:
        if source.module.startswith("minires."):
            asked.setdefault(Path(inspect.getfile(source.loaded)).relative_to(home), []).append(source.path)
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home)
        hidden = inside.parts[0].removesuffix(".py") not in ROOMS or "__pycache__" in inside.parts
        if hidden or path.is_dir() or path.suffix not in (".py", ".gz", ".npz", ".typed", ".csv"):
            continue
        target = folder / "minires" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            target.write_text(blank(path.read_text(encoding="utf-8"), asked.get(inside, ())), encoding="utf-8")
        else:
            target.write_bytes(path.read_bytes())
