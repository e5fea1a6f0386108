"""The house rules that a machine can check, with the standard library's ``ast`` only."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "profile_actors"

# What a room may import: itself and what stands to its left (DESIGN section 4).
LAYERS = (
    *("errors", "config", "columnar", "definitions", "ingest", "rules"),
    *("engine", "storage", "actors", "driver", "client", "public_names", "cli"),
)
# The same inside a room: its folders, in reading order; "" is what lies beside the folders.
INNER = {
    "rules": (
        *("tree", "semantics", "language", "json_form", "reference", "planning", "evaluation"),
        *("catalogue", "explain"),
    ),
    "engine": (
        *("log", "identity", "shipping", "erasure", "merge", "histories", "operators"),
        *("membership", "fold", "refold", "reading", "trials", "edges", "exchange"),
        "partition",
    ),
    "ingest": ("typing", "", "files"),
    "storage": ("files", "", "rejects", "erasure", "scrub", "compaction", "replicas", "shipping"),
    "driver": (
        *(
            "",
            "trials",
            "keeping",
            "starting",
            "people",
            "replicas",
            "edges",
            "streams",
            "files",
            "shipping",
        ),
    ),
}
DOORS = {"actors", "driver", "client", "cli", "__init__", "__main__"}
ONLY_IN = {"ray": DOORS, "lmdb": {"storage"}}
IMPURE_MODULES = {"random", "secrets", "uuid", "time"}
IMPURE_CALLS = {
    *("print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today"),
    *("os.getenv", "os.urandom", "np.random.default_rng", "numpy.random.default_rng"),
}
BANNED_NAMES = {"utils", "util", "common", "base", "manager", "helpers", "misc"}
MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 400
MAX_MODULES_PER_FOLDER = 12
MAX_BLOB_BYTES = 1_000_000

# (module, function or "") -> lines (of code) it has today. A ratchet: an entry must be exact, so a
# shrunken one is lowered or removed here, and MAX_EXCEPTIONS never grows.
EXCEPTIONS: dict[tuple[str, str], int] = {}
MAX_EXCEPTIONS = 0
# Words that the glossary gives one meaning -> the rooms whose business that meaning is.
RESERVED_WORDS: dict[str, tuple[str, ...]] = {
    "cut": (
        *("engine.identity", "engine.trials.past_evidence"),
        *("driver.simulation", "driver.identity_graphs"),
    ),
    "link": (
        *("engine.identity", "engine.erasure", "engine.exchange.letters", "definitions.declared"),
        *("engine.trials.past_evidence", "cli"),
        *("driver.simulation", "driver.identity_graphs", "driver.files.access_request"),
    ),
    "edge": (
        *("engine.edges", "engine.partition", "storage", "actors", "driver", "definitions"),
        *("rules.catalogue", "client", "cli", "config"),
    ),
    "merge": (
        *("engine.merge", "engine.reading", "definitions", "rules.catalogue", "driver", "client"),
    ),
    "move": (),
}
ALLOWED_NAMES: set[str] = set()

MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES]
)


def _name(path: Path) -> str:
    """``engine/log/ports.py`` -> ``engine.log.ports``; a room's ``__init__`` -> the room's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


KNOWN = {_name(path) for path in MODULES}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every dotted name that a module imports, wherever the statement stands, with its line."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports from the root, not '.'"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _inner_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of this package that a module imports, as ``_name`` writes them."""
    for target, line in _imports(path):
        if target.split(".")[0] != "profile_actors":
            continue
        dotted = target.split(".", 1)[1] if "." in target else "__init__"
        while dotted not in KNOWN and "." in dotted:
            dotted = dotted.rsplit(".", 1)[0]
        yield (dotted if dotted in KNOWN else "__init__"), line


@cache
def _code_lines(path: Path) -> set[int]:
    """Line numbers that hold code: no blank lines, comments or docstrings."""
    tree = _tree(path)
    text = path.read_text(encoding="utf-8").splitlines()
    lines = {i for i, line in enumerate(text, 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for item in body:  # docstrings, and the texts below a struct's fields
            if (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            ):
                lines -= set(range(item.lineno, (item.end_lineno or 0) + 1))
    return lines


@each_module
def test_imports_point_up(path: Path) -> None:
    here = _name(path).split(".")[0]
    if here in ("__init__", "__main__"):
        return
    assert here in LAYERS, f"{path}: not a room of DESIGN section 4"
    for target, line in _inner_imports(path):
        room = target.split(".")[0]
        assert room in LAYERS, f"{path}:{line}: import the module that defines it, not {target}"
        assert LAYERS.index(room) <= LAYERS.index(here), (
            f"{path}:{line}: {here} may not import {room}, which stands below it"
        )


def test_no_import_circles() -> None:
    graph = {_name(p): {t for t, _ in _inner_imports(p)} - {"__init__"} for p in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if target != name:
                    visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@each_module
def test_imports_inside_a_room_point_up(path: Path) -> None:
    here = _name(path).split(".")
    order = INNER.get(here[0])
    if order is None or len(here) == 1:
        return
    is_folder = len(here) == 3 or path.name == "__init__.py"
    folder = here[1] if is_folder else ""
    assert folder in order, f"{path}: not a folder of {here[0]}, which has {', '.join(order)}"
    for target, line in _inner_imports(path):
        there = target.split(".")
        if there[0] != here[0] or len(there) == 1:
            continue
        other = there[1] if len(there) == 3 or there[1] in order else ""
        assert order.index(other) <= order.index(folder), (
            f"{path}:{line}: {folder or here[0]} may not import {other}, which stands below it"
        )


def test_folders_hold_few_modules_of_different_names() -> None:
    """A newcomer finds things by the names of folders; at most 12 modules a folder."""
    folders = Counter(p.parent for p in MODULES if p.name != "__init__.py")
    assert {f: n for f, n in folders.items() if n > MAX_MODULES_PER_FOLDER} == {}
    names = Counter(p.stem for p in MODULES if p.name != "__init__.py")
    assert {name for name, n in names.items() if n > 1} == set(), "two modules of one name"


def test_a_folders_init_only_hands_on() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            for node in _tree(path).body:
                assert _hands_on(node), f"{path}:{node.lineno}: code in __init__; give it a module"


def _hands_on(node: ast.stmt) -> bool:
    """Docstrings, imports (also those for type checkers only), and the list of names."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return all(isinstance(inner, ast.ImportFrom) for inner in node.body)
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)


@each_module
def test_words_of_the_glossary_mean_one_thing(path: Path) -> None:
    """A name that says segment, cut, link, edge, merge or move says what DESIGN section 3 says."""
    here = _name(path)
    for node in ast.walk(_tree(path)):
        name = _identifier(node)
        for word in _words(name) & RESERVED_WORDS.keys():
            line = getattr(node, "lineno", 0)
            assert here.startswith(RESERVED_WORDS[word]) or name in ALLOWED_NAMES, (
                f"{path}:{line}: {name}: {word} is a word of the glossary; say it otherwise"
            )


def _identifier(node: ast.AST) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.arg():
            return node.arg
        case ast.FunctionDef() | ast.ClassDef():
            return node.name
    return ""


def _words(name: str) -> set[str]:
    """LogSegment and log_segments -> log, segment."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {word.lower().removesuffix("s") for word in found}


@each_module
def test_ray_and_lmdb_stay_in_their_rooms(path: Path) -> None:
    room = _name(path).split(".")[0]
    for target, line in _imports(path):
        allowed = ONLY_IN.get(target.split(".")[0])
        assert allowed is None or room in allowed, f"{path}:{line}: {target} in {room}"


@each_module
def test_pure_core_has_no_clock_chance_environment_or_print(path: Path) -> None:
    if _name(path).split(".")[0] in DOORS:
        return
    for target, line in _imports(path):
        assert target.split(".")[0] not in IMPURE_MODULES, f"{path}:{line}: {target}: pass it in"
        assert not target.startswith(("os.environ", "numpy.random")), f"{path}:{line}: {target}"
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in IMPURE_CALLS, f"{path}:{node.lineno}: {called}(): pass it in"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "os.environ", f"{path}:{node.lineno}: pass it in"


@each_module
def test_decoders_are_made_at_import(path: Path) -> None:
    """msgspec works out a struct's types at its first use, and two threads that do so at the same
    time can crash the process. A decoder of a type that a caller names is that caller's."""
    for function in ast.walk(_tree(path)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        parameters = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_lazy = node.func.attr.startswith("decode") and any(
                    keyword.arg == "type" for keyword in node.keywords
                )
                made = {ast.unparse(argument) for argument in node.args} - parameters
                is_lazy |= node.func.attr == "Decoder" and bool(made)
                assert not is_lazy, f"{path}:{node.lineno}: make it at module level"


@each_module
def test_names_say_something(path: Path) -> None:
    for part in path.relative_to(PACKAGE).with_suffix("").parts:
        assert part not in BANNED_NAMES, f"{path}: name the module after what it knows"


def test_every_room_says_what_others_import() -> None:
    """A title, then what others may import (decision 0027)."""
    for path in MODULES:
        if path.name == "__init__.py":
            title, _, rest = (ast.get_docstring(_tree(path)) or "").partition("\n\n")
            assert title.endswith("."), f"{path}: say in one sentence what the room is"
            assert rest.strip().endswith("."), f"{path}: say what others may import"


@each_module
def test_public_things_have_docstrings(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), f"{path}: no module docstring"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        # A function of one statement is its own description.
        plain = not isinstance(node, ast.ClassDef) and len(node.body) == 1
        private = node.name.startswith("_")
        assert plain or private or ast.get_docstring(node), (
            f"{path}:{node.lineno}: {node.name}: no docstring"
        )


def _sizes() -> dict[tuple[str, str], int]:
    """Lines of every module, and lines of code of every function, that is over its limit."""
    over: dict[tuple[str, str], int] = {}
    for path in MODULES:
        lines = _code_lines(path)
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > MAX_MODULE_LINES:
            over[_name(path), ""] = length
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                if size > MAX_FUNCTION_LINES:
                    over[_name(path), node.name] = size
    return over


def test_sizes_stay_small() -> None:
    """Functions <= 70 lines of code, modules <= 400 lines; the lists of exceptions only shrink."""
    assert _sizes() == EXCEPTIONS
    assert len(EXCEPTIONS) <= MAX_EXCEPTIONS


def test_every_module_is_reached_from_a_door() -> None:
    graph = {_name(p): {t for t, _ in _inner_imports(p)} for p in MODULES}
    reached: set[str] = set()
    todo = [name for name in graph if name in DOORS or name.split(".")[0] == "actors"]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo.extend(graph.get(name, ()))
    # A room's own __init__ has no importer and nothing but a docstring.
    rooms = {_name(path) for path in MODULES if path.name == "__init__.py"}
    rooms |= {"engine.log.in_memory"}  # what tests and the simulator store in
    assert sorted(set(graph) - reached - rooms) == [], "dead modules: delete or use them"


def test_map_of_rooms_is_in_step() -> None:
    """docs/ARCHITECTURE.md lists each module with its first docstring line (``make map``)."""
    spec = importlib.util.spec_from_file_location("rooms_map", ROOT / "docs" / "map.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert module.with_map(text) == text, "run make map"


def test_modules_that_prose_names_exist() -> None:
    """Where a document, a docstring or a comment says ``room/module``, it is there."""
    rooms = "|".join(sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()))
    named = re.compile(f"`(?:src/profile_actors/)?((?:{rooms})/[\\w/]*?)/?(?:\\.py)?`")
    prose = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").rglob("*.md")]
    code = [path for room in ("src", "tests", "bench") for path in (ROOT / room).rglob("*.py")]
    gone = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*prose, *code)
        if path.name != "CHANGELOG.md"  # history
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file())
    ]
    assert gone == []


# Dotted names in double back-ticks: ``frames.Frame``, ``room.module``, ``module.py``.
DOTTED = re.compile(r"``([a-z]\w*)\.(\w+)(?:[.(\[][^`]*)?``")
RULE_NAMES = {"pf", "xEvent", "m"}  # the first words of paths in a rule's text, or a caller's


def test_dotted_names_in_prose_exist() -> None:
    """Where prose says ``module.name`` or ``room.module``, it is there."""
    modules = {path.stem: _code_names(path) for path in MODULES if path.name != "__init__.py"}
    rooms = {path.name: {p.stem for p in path.rglob("*")} for path in PACKAGE.rglob("*/")}
    roots = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    known = {name for path in MODULES for name in _code_names(path)} | RULE_NAMES
    gone = []
    for path in MODULES:
        own = _code_names(path)
        for first, second in DOTTED.findall(path.read_text(encoding="utf-8")):
            has = {*modules.get(first, ()), *rooms.get(first, ())}
            if second == "py":
                right = first in modules
            elif first in roots or (has and first not in own) or second[0].isupper():
                right = second in has
            else:  # a variable, a field, or a module of the library
                right = bool(has) or first in known
            if not right:
                gone.append(f"{path.relative_to(PACKAGE)}: {first}.{second}")
    assert gone == []


@cache
def _code_names(path: Path) -> set[str]:
    """Every name that a module's code says."""
    names = {_identifier(node) for node in ast.walk(_tree(path))}
    return names | {part for target, _ in _imports(path) for part in target.split(".")}


def test_unit_tests_mirror_the_package() -> None:
    """``tests/unit/ROOM/test_MODULE.py`` tests ``ROOM/MODULE.py``; what tests more stands in
    ``tests/model``, ``tests/property`` or the like."""
    unit = ROOT / "tests" / "unit"
    tests = [path.relative_to(unit) for path in unit.rglob("test_*.py")]
    assert tests, "no unit tests?"
    strays = [
        str(path)
        for path in tests
        if not (PACKAGE / path.with_name(path.name.removeprefix("test_"))).is_file()
    ]
    assert strays == []


def _project_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_paths_of_one_machine_and_no_large_files() -> None:
    # Written in pieces, so that this file does not contain what it refuses.
    slash = "/"
    places = re.compile(
        f"(?<![\\w.{slash}-]){slash}(?:work|farm|root|Users){slash}|{slash}home{slash}(?!ubuntu)\\w"
    )
    for path in _project_files():
        data = path.read_bytes()
        assert len(data) <= MAX_BLOB_BYTES, f"{path}: {len(data)} bytes; generate it instead"
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            assert not places.search(line), f"{path}:{number}: a path of one machine: {line[:80]}"
