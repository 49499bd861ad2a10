"""What is meant to be the same in several places is: code under `# Copied from script.name`, and pinned versions."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(ROOT.glob("*.py"))
MARK = re.compile(r"# Copied from (\w+)\.([\w.]+?)(?: with (\w+)->(\w+))?$")
KEEPS_A_RUN = "# ------------------------- The experiment ends here."


def definitions(source):
    """All classes, functions and methods of a script, with their decorators and docstrings: {name: syntax tree}."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}": n for n in node.body if isinstance(n, ast.FunctionDef)}
    return found


def first_line(node):
    """The line at which a definition starts, or its first decorator."""
    return min(n.lineno for n in (node, *node.decorator_list))


def marks():
    """Every mark that stands above a definition: (copying script, name of the copy, original script, its name, ...)."""
    found = []
    for file in SCRIPTS:
        lines = file.read_text().splitlines()
        for copy, node in definitions(file.read_text()).items():
            mark = MARK.fullmatch(lines[first_line(node) - 2].strip())
            if mark:
                found.append((file.stem, copy, *mark.groups()))
    return found


def text_of(node, replaced=None, by=None):
    """A definition as text, whatever its comments and its layout; `replaced` wherever it stands as a word."""
    text = ast.dump(node)
    return re.sub(rf"\b{replaced}\b", by, text) if replaced else text


def test_there_are_marks():
    assert {copying for copying, *_ in marks()} == {file.stem for file in SCRIPTS} - {"d3g_continuous"}
    assert len(marks()) >= 50
    written = sum(file.read_text().count("Copied from") for file in SCRIPTS)
    assert written == len(marks()), "a mark that is not above a definition, or not written as they are"


@pytest.mark.parametrize("mark", marks(), ids=lambda mark: f"{mark[0]}.{mark[1]}")
def test_copy_equals_original(mark):
    copying, copy, original, name, replaced, by = mark
    assert original != copying
    originals = definitions((ROOT / f"{original}.py").read_text())
    assert name in originals, f"{original}.py has no {name}"
    ours = definitions((ROOT / f"{copying}.py").read_text())[copy]
    assert text_of(ours) == text_of(originals[name], replaced, by)


def test_what_keeps_a_run_is_one_text():
    """Of the part below the experiment, every definition that d3g_continuous.py has too is a copy of its."""
    below = {}
    for file in SCRIPTS:
        source = file.read_text()
        if "torch" in source and file.stem != "tabular_qss":
            assert source.count(KEEPS_A_RUN) == 1, file.name
            line = source[: source.index(KEEPS_A_RUN)].count("\n")
            found = {name: node for name, node in definitions(source).items() if first_line(node) > line}
            below[file.stem] = {name for name in found if "." not in name}
    assert len(below) == 5
    copied = {(copying, copy) for copying, copy, *_ in marks()}
    for script, names in below.items():
        for name in names & below["d3g_continuous"] - {"check_args"}:
            assert script == "d3g_continuous" or (script, name) in copied, f"{script}.{name} has no mark"
        assert {"fail", "check_finite", "save", "open_run", "Run", "on_signal"} <= names


def test_a_changed_copy_is_found():
    """In the body, the docstring, a decorator, a default or a method; a comment or the layout is no change."""
    original = '@contextmanager\ndef f(x: int = 1):\n    """Say."""\n    yield x\n'
    original += "class C(B):\n    def m(self):\n        pass\n"
    expected = {name: text_of(node) for name, node in definitions(original).items()}
    assert expected.keys() == {"f", "C", "C.m"}
    for old, new, name in (
        ("yield x", "yield -x", "f"),
        ("Say.", "Tell.", "f"),
        ("@contextmanager\n", "", "f"),
        ("= 1", "= 2", "f"),
        ("pass", "return", "C"),
        ("(B)", "", "C"),
    ):
        assert text_of(definitions(original.replace(old, new))[name]) != expected[name]
    same = original.replace("yield x", "yield (x)  # as it is")
    assert text_of(definitions(same)["f"]) == expected["f"]
    assert text_of(definitions("def g(E):\n    return D3G, D3Ga")["g"], "D3G", "E") == text_of(
        definitions("def g(E):\n    return E, D3Ga")["g"]
    )


# ------------------------------------------------------------------------------------------------ pinned versions


def header(source):
    """The contents of a script's PEP 723 header, found as that standard says."""
    (block,) = re.findall(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", source)
    return tomllib.loads("".join(line.removeprefix("#").removeprefix(" ") for line in block[0].splitlines(True)))


def imported(source):
    """The distributions that a script imports, by their names in requirements.txt."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    found = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    if "gymnasium" in found:
        found = found - {"gymnasium"} | {"gymnasium[mujoco]", "mujoco"}  # its tasks need it
    if "torch.utils.tensorboard" in names:
        found.add("tensorboard")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_a_script_that_runs_by_itself_has_the_same_pins(script):
    """`uv run FILE` installs what requirements.txt would, and no more than the script imports."""
    assert len(SCRIPTS) == 6
    source = script.read_text()
    assert source.startswith("# /// script\n")
    given = header(source)
    assert given.keys() == {"requires-python", "dependencies"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {line.split("==")[0]: line for line in lines if "==" in line}
    assert given["dependencies"] == sorted(pins[name] for name in imported(source))
    assert len(given["dependencies"]) >= 4


def test_one_range_of_pythons():
    required = {header(script.read_text())["requires-python"] for script in SCRIPTS}
    lowest, highest = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text()).groups()
    assert required == {f">=3.{lowest},<3.{int(highest) + 1}"}
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == f"py3{lowest}"


def test_td3_trains_in_the_loop_of_d3g():
    """The two loops differ in the names of the agents and in the units of D3G+, and in nothing else."""
    d3g = definitions((ROOT / "d3g_continuous.py").read_text())["train"]
    td3 = definitions((ROOT / "td3_baseline.py").read_text())["train"]
    units = [node for node in ast.walk(d3g) if isinstance(node, ast.If) and "standardize" in ast.dump(node.test)]
    assert len(units) == 1
    for node in ast.walk(d3g):
        if isinstance(node, ast.While):
            node.body = [statement for statement in node.body if statement is not units[0]]
    assert text_of(d3g, "D3G", "TD3") == text_of(td3)
