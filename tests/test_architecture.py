"""What may import what, what a start may load, and that README tells the truth about options and commands.

`python tests/test_architecture.py` writes README's table of options anew.
"""

import ast
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [path for package in ("puppet", "engines", "trainer") for path in sorted((ROOT / package).rglob("*.py"))]
HEAVY = ("torch", "onnxruntime", "openvino", "tensorrt", "torch_tensorrt", "mediapipe", "onnx", "cv2")
FORBIDDEN = {"puppet": {"trainer"}, "engines": {"puppet", "trainer"}, "trainer": set()}
ONLY_IN = {
    "pyvirtualcam": ["puppet/publish/virtualcam.py"],
    "c2pa": ["puppet/credentials/c2pa_file.py"],
    "cryptography": ["puppet/credentials/identity.py"],
    "openvino": ["engines/backends/openvino.py"],
    "torch_tensorrt": ["engines/backends/tensorrt.py"],
}
TABLE = re.compile(r"(<!-- options -->\n).*?(<!-- /options -->)", re.DOTALL)


def imported(path):
    """Top-level packages that a file imports anywhere, with the names `TYPE_CHECKING` guards too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    name = str(path.relative_to(ROOT)).replace("\\", "/")
    found = imported(path)
    assert not found & FORBIDDEN[name.split("/")[0]]
    for library, places in ONLY_IN.items():
        assert library not in found or name in places, f"{library} belongs in {places}"


def test_the_puppet_names_torch_in_the_generators_graph_only():
    graph = ROOT / "puppet" / "generate" / "graph"
    runtime = [p for p in SOURCES if p.is_relative_to(ROOT / "puppet") and not p.is_relative_to(graph)]
    assert not [path.name for path in runtime if "torch" in imported(path)]
    at_once = re.compile(r"^(from|import) puppet\.generate\.graph", re.MULTILINE)
    assert not [path.name for path in runtime if at_once.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_pickles(path):
    text = path.read_text(encoding="utf-8")
    assert "pickle" not in imported(path)
    assert "allow_pickle=True" not in text and "torch.load(" not in text


@pytest.mark.parametrize("code", ["import puppet", "import engines", "from puppet.__main__ import main"])
def test_imports_load_no_library(code):
    run = f"{code}; import sys; sys.exit(', '.join(set({HEAVY}) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["--dry-run", "--driver", "demo"]])
def test_help_and_dry_run_load_no_library(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "puppet", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not loaded & set(HEAVY)


def option_rows():
    """README's table of options, from the dataclasses that define them."""
    from puppet.config import Options

    rows = ["| flag | what it does | default |", "|---|---|---|"]
    for group, group_type in get_type_hints(Options).items():
        assert is_dataclass(group_type), group
        hints = get_type_hints(group_type, include_extras=True)
        for field in fields(group_type):
            kind = get_args(hints[field.name])[0]
            (option,) = (extra for extra in hints[field.name].__metadata__ if hasattr(extra, "metavar"))
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            value = option.metavar or "\\|".join(choices)
            default = (option.help_behavior_hint or "").strip("()")
            flag = f"--{field.name.replace('_', '-')} {value}".strip()
            rows.append(f"| `{flag}` | {option.help} | {default} |")
    return "\n".join(rows) + "\n"


def test_readme_lists_the_options():
    table = TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert table, "README.md has no <!-- options --> block"
    assert table[0] == f"{table[1]}{option_rows()}{table[2]}", "run: python tests/test_architecture.py"


def test_the_check_runs_what_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(pip install .*&& pytest)$", readme, re.MULTILINE)
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(TABLE.sub(lambda match: f"{match[1]}{option_rows()}{match[2]}", text), encoding="utf-8")
