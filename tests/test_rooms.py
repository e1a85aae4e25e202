"""The rooms of the package: its modules and subpackages, in the order of docs/developer/rooms.md."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spikeinterface_nuclr"
ORDER = re.findall(r"^- `(\w+)`", (ROOT / "docs" / "developer" / "rooms.md").read_text(), re.MULTILINE)


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name; a package stands for its ``__init__``."""
    paths = sorted(package.rglob("*.py"))
    names = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Names of the package's modules that a module imports, at its top or inside of functions."""
    parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            imported |= members & modules.keys()
            if base in modules and members - modules.keys():
                imported.add(base)
    return imported - {name}


def imports_in(package: Path) -> dict[str, set[str]]:
    modules = modules_of(package)
    return {name: imports_of(name, path, modules) for name, path in modules.items()}


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def upward(imports: dict[str, set[str]], order: list[str]) -> list[str]:
    """Imports of a room further down in the order; what stands outside of the rooms comes after all of them."""

    def rank(module):
        room = module.split(".")[1] if "." in module else None
        return order.index(room) if room in order else len(order)

    pairs = ((a, b) for a, imported in imports.items() for b in imported)
    return sorted(f"{a} imports {b}" for a, b in pairs if rank(a) < rank(b))


def test_the_order_names_every_room():
    rooms = {name.split(".")[1] for name in modules_of(PACKAGE) if "." in name} - {"__main__"}
    assert sorted(ORDER) == sorted(rooms)


def test_no_circle_among_modules():
    assert circle_in(imports_in(PACKAGE)) == []


def test_imports_point_down():
    assert upward(imports_in(PACKAGE), ORDER) == []


def test_few_modules_stand_on_the_ground_floor():
    assert len(list(PACKAGE.glob("*.py"))) <= 15


def test_no_module_defines_a_name_twice():
    for path in sorted(PACKAGE.rglob("*.py")):
        names = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.append(node.name)
            elif isinstance(node, ast.Assign):
                names += [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize(
    "statement",
    [
        "from . import high",
        "from .high import thing",
        "import rooms.high",
        "from rooms import high",
        "from rooms.high import thing",
        "def function():\n    from .high.inner import thing",
        "class Thing:\n    def method(self):\n        from .high import inner",
    ],
)
def test_an_import_up_and_a_circle_are_seen(tmp_path, statement):
    package = tmp_path / "rooms"
    (package / "high").mkdir(parents=True)
    for path, text in {
        "__init__.py": "from . import high",
        "low.py": statement,
        "high/__init__.py": "from . import inner",
        "high/inner.py": "from ..low import something",
    }.items():
        (package / path).write_text(text)
    imports = imports_in(package)
    [arrow] = upward(imports, ["low", "high"])
    assert arrow.startswith("rooms.low imports rooms.high")
    assert {"rooms.low", "rooms.high.inner"} <= set(circle_in(imports))
    (package / "low.py").write_text("import numpy\n")
    imports = imports_in(package)
    assert (upward(imports, ["low", "high"]), circle_in(imports)) == ([], [])
    assert upward({"rooms.low": {"rooms"}}, ["low", "high"]) == ["rooms.low imports rooms"]
