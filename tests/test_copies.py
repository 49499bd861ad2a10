"""Code that is meant to be the same in several scripts is the same: every `# Copied from script.name` is checked."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"# Copied from (\w+)\.([\w.]+?)(?: with (\w+)->(\w+))?$", re.M)


def definition(source, name):
    """The class or function `name` (Class.method for a method) of a script: its syntax tree, docstring and all."""
    node = ast.parse(source)
    for part in name.split("."):
        (node,) = [n for n in node.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part]
    return ast.dump(node)


def marks():
    """Every mark: (copying script, name of the copy, original script, name of the original, replaced, by)."""
    found = []
    for script in sorted(ROOT.glob("*.py")):
        source = script.read_text()
        for mark in MARK.finditer(source):
            original, name, old, new = mark.groups()
            copy = re.match(r"\s*(?:@.*\s+)*(?:class|def) (\w+)", source[mark.end() :])[1]
            if "." in name:  # a method: in the class that it stands in
                copy = re.findall(r"^class (\w+)", source[: mark.start()], re.M)[-1] + "." + copy
            found.append((script.stem, copy, original, name, old, new))
    return found


def test_there_are_marks():
    assert {copying for copying, *_ in marks()} == {p.stem for p in ROOT.glob("*.py")} - {"d3g_continuous"}
    assert len(marks()) >= 12
    assert sum(p.read_text().count("Copied from") for p in ROOT.glob("*.py")) == len(marks()), "a mark that is not read"


@pytest.mark.parametrize("mark", marks(), ids=lambda mark: f"{mark[0]}.{mark[1]}")
def test_copy_equals_original(mark):
    copying, copy, original, name, old, new = mark
    source = (ROOT / f"{original}.py").read_text()
    expected = definition(source, name)
    if old:
        expected = expected.replace(old, new)
    assert definition((ROOT / f"{copying}.py").read_text(), copy) == expected
