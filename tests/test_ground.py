"""The ground: settings that bind every room, the bootstrap, and the faces over it."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import string
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINS = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", CONSTRAINTS))


def run(*command, cwd=ROOT, **options):
    """The finished process, its output as text."""
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", **options)


def program(name: str) -> str:
    """A development tool of the environment the tests run in."""
    return shutil.which(name, path=Path(sys.executable).parent) or pytest.skip(
        f"needs {name} (bootstrap.py install --dev)"
    )


# Settings


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"]], ids=" ".join)
def test_the_code_is_clean(command):
    done = run(program(command[0]), *command[1:])
    assert done.returncode == 0, done.stdout


def test_an_open_without_its_encoding_is_found():
    for code, clean in (('open("x")\n', False), ('open("x", encoding="utf-8")\n', True)):
        done = run(program("ruff"), "check", "--stdin-filename", "src/kakehashi/x.py", "-", input=code)
        assert (done.returncode == 0) == clean and ("without explicit `encoding`" in done.stdout) != clean


def test_rooms_call_only_the_rooms_below():
    done = run(program("lint-imports"), "--no-logo", "--no-cache")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "line", "kept"),
    [
        ("journey", "import kakehashi.faults", True),
        ("faults", "import kakehashi.journey", False),
        ("data", "import kakehashi.runs", False),
        ("training", "import kakehashi.inference", False),
        ("source", "import kakehashi.data", False),
        ("texts", "import kakehashi.report", False),
        ("runs", "from kakehashi.models.protocol import Output", True),
        ("runs", "from kakehashi.models.gpt2 import Model", False),
        ("models/mlp.py", "from kakehashi.models.gpt2 import Model", False),
        ("attic", "", False),
    ],
)
def test_the_import_contract_tells_right_from_wrong(tmp_path, room, line, kept):
    package = tmp_path / "kakehashi"
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    built = [name for layer in layers for name in layer.split(" | ") if not name.startswith("(")]
    for name in ("", *built, "models/protocol.py", "models/gpt2.py", "models/mlp.py", room):
        file = package / name if name.endswith(".py") else package / name / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line if name == room else "", encoding="utf-8")
    done = run(program("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml", cwd=tmp_path)
    assert (done.returncode == 0) == kept, done.stdout


def test_a_model_file_can_be_read_alone():
    """torch, the standard library, models/protocol.py and the package's Mistake: nothing else is imported."""
    allowed = {*sys.stdlib_module_names, "torch", "kakehashi", "kakehashi.models.protocol"}
    files = set((ROOT / "src/kakehashi/models").glob("*.py")) - {ROOT / "src/kakehashi/models/__init__.py"}
    assert len(files) > 1
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name}:{node.lineno}: a relative import"
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", ())]
            for name in names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                assert name in allowed or name.partition(".")[0] in allowed - {"kakehashi"}, f"{file.name}: {name}"


def test_the_examples_for_contributors_stand_in_the_files_they_name():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"```\w+\n# (\S+)\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == text.count("```") // 2 > 5
    for path, example in examples:
        assert example in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no longer:\n{example}"


def test_the_pages_link_to_files_that_exist():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


# What is pinned


def test_every_requirement_is_pinned_to_a_version_it_allows():
    groups = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(need for group in groups for need in group)]:
        need = Requirement(text)
        assert need.specifier.contains(PINS[need.name]), f"{text}: constraints.txt has {PINS[need.name]}"


def test_the_pins_are_what_the_tests_run_with():
    installed = {dist.name: dist.version.partition("+")[0] for dist in importlib.metadata.distributions()}
    assert {name: installed[name] for name in PINS if name in installed and installed[name] != PINS[name]} == {}


def test_the_version_is_the_same_wherever_it_is_said():
    import kakehashi

    assert kakehashi.__version__ == PROJECT["project"]["version"]
    assert f"## {kakehashi.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow  # without an index that serves metadata alone, pip fetches 0.5 GB for each system
@pytest.mark.parametrize("system", ["win_amd64", "macosx_14_0_arm64"])
def test_every_pin_has_a_wheel_for(system, tmp_path):
    """Resolved, not run: this says that an install there finds every version that was tested here."""
    only = ["--only-binary=:all:", "--platform", system, "--python-version", "3.11", "--no-deps", "--ignore-installed"]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--retries", "1", "--target", tmp_path, *only]
    done = run(*pip, "--no-binary=drain3", "-r", ROOT / "constraints.txt")  # pure Python, on the index as source only
    if done.returncode and "No matching distribution" in done.stderr and run(*pip, "idna").returncode:
        pytest.skip("offline: no package index answered")
    assert done.returncode == 0, done.stderr
    would = done.stdout.rpartition("Would install ")[2].split()
    assert len(would) == len(PINS)


# The bootstrap, its parts

spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)


def test_an_old_python_can_read_the_bootstrap_and_is_told(monkeypatch, capsys):
    ast.parse((ROOT / "bootstrap.py").read_bytes(), feature_version=(3, 6))
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 0))
    assert bootstrap.main(["--lang", "en", "tour"]) == 2
    assert re.fullmatch(r"Python 3\.\S+ is too old: .* 99\.0 or newer.*\n", capsys.readouterr().err)


def test_both_languages_say_the_same():
    def fields(text):
        return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name})

    en, ja = bootstrap.TEXTS["en"], bootstrap.TEXTS["ja"]
    assert {key: fields(text) for key, text in en.items()} == {key: fields(text) for key, text in ja.items()}
    for key, text in ja.items():
        text.encode("cp932")
        assert re.search("[ぁ-んァ-ヶ一-龠]", text) or text == en[key] == "{name}: {why}"


@pytest.mark.parametrize(
    ("option", "variables", "spoken"),
    [
        ("ja", {"LANG": "en_US.UTF-8"}, "ja"),
        (None, {"LANG": "ja_JP.UTF-8"}, "ja"),
        (None, {"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        (None, {"LANG": "ja_JP.UTF-8", "KAKEHASHI_LANG": "en"}, "en"),
        (None, {}, "en"),
    ],
)
def test_it_speaks_the_language_of_the_system(monkeypatch, option, variables, spoken):
    for name in ("KAKEHASHI_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert os.name == "nt" or bootstrap.language(option) == spoken


WANTED = {"fingerprint": "f", "python": "3.11", "torch_index": None, "dev": False}
DONE = {**WANTED, "made_here": True, "busy": False}


@pytest.mark.parametrize(
    ("state", "usable", "wanted", "action"),
    [
        (None, False, {}, "create"),
        (None, True, {}, "update"),  # somebody else's environment is used, not replaced
        (DONE, True, {}, "ready"),
        (DONE, True, {"fingerprint": "g"}, "update"),
        (DONE, True, {"dev": True}, "update"),
        ({**DONE, "dev": True}, True, {}, "ready"),
        ({**DONE, "busy": True}, True, {}, "rebuild"),  # killed while pip was writing
        (DONE, False, {}, "rebuild"),  # its Python is gone
        (DONE, True, {"python": "3.12"}, "rebuild"),
        (DONE, True, {"torch_index": "none"}, "rebuild"),
        ({**DONE, "made_here": False, "busy": True}, True, {"python": "3.12"}, "update"),
        ({**DONE, "made_here": False}, False, {}, "create"),
    ],
)
def test_what_becomes_of_an_environment(state, usable, wanted, action):
    assert bootstrap.decide(state, usable, {**WANTED, **wanted}) == action


@pytest.mark.parametrize(
    ("config", "own"),
    [
        ("", []),
        ("global.cert='/ca.pem'\n:env:.proxy='http://proxy:3128'", []),  # a way to the public index, not another index
        ("global.index-url='https://pypi.org/simple'", []),
        (":env:.find-links=''", []),
        ("user.index-url='https://mirror.example/simple'\n:env:.no-index='1'", ["index-url", "no-index"]),
        ("global.find-links='/opt/wheels'", ["find-links"]),
    ],
)
def test_whose_index_it_is(config, own):
    assert bootstrap.own_sources(config) == own


@pytest.mark.parametrize(
    ("choice", "own", "system", "index"),
    [
        (None, [], "linux", bootstrap.CPU_INDEX),
        (None, [], "win32", None),
        (None, [], "darwin", None),
        (None, ["index-url"], "linux", None),  # nothing but the mirror is asked
        ("none", [], "linux", None),
        ("https://mirror.example/torch", ["index-url"], "linux", "https://mirror.example/torch"),
    ],
)
def test_where_torch_comes_from(choice, own, system, index):
    assert bootstrap.torch_source(choice, own, system) == index


@pytest.mark.parametrize(
    ("log", "key", "value"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "pip_space", {}),
        (
            "Could not fetch URL https://me:secret@mirror.example:8443/rich/: There was a problem confirming the "
            "ssl certificate: ...\nERROR: No matching distribution found for rich",
            "pip_certificate",
            {"host": "mirror.example"},
        ),
        (
            "Could not fetch URL https://a.example/rich/: proxy connection error: ...",
            "pip_proxy",
            {"host": "a.example"},
        ),
        ("Could not fetch URL https://a.example/rich/: connection error: ...", "pip_network", {"host": "a.example"}),
        ("urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(...): Read timed out.", "pip_broken", {}),
        (
            "Could not fetch URL https://a.example/rich/: 404 Client Error: Not Found - skipping\n"
            "ERROR: No matching distribution found for rich>=99",
            "pip_missing",
            {"what": "rich>=99"},
        ),
        (
            "ERROR: Package 'x' requires a different Python",
            "pip_other",
            {"what": "Package 'x' requires a different Python"},
        ),
    ],
)
def test_what_pip_says_becomes_one_line(log, key, value):
    stop = bootstrap.explain(log)
    assert stop.key == key and value.items() <= stop.values.items()
    for texts in bootstrap.TEXTS.values():
        line = texts[key].format(**stop.values)
        assert "\n" not in line and "secret" not in line


def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "STATE", tmp_path / ".venv" / "kakehashi.json")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**33, 2**33, 2**24))
    assert bootstrap.main(["--lang", "en", "install"]) == 2
    assert re.fullmatch(r"too little space for .*: 16 MB are free, about \d+ MB are needed\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "usage: python bootstrap.py"),
        ([], 2, "usage: python bootstrap.py"),
        (["--lang", "ja", "--help"], 0, "使い方"),
        (["--lang", "en", "tuor"], 2, "unknown command 'tuor': one of tour, start, test"),
        (["--lang", "en", "lint", "src"], 2, "lint does not take src"),
    ],
)
def test_a_wrong_call_changes_nothing(tmp_path, arguments, code, said):
    shutil.copy(ROOT / "bootstrap.py", tmp_path)
    done = run(
        sys.executable, "bootstrap.py", *arguments, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "utf-8"}
    )
    assert done.returncode == code and said in done.stdout + done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"bootstrap.py"}


# The bootstrap, whole, on a small project with an index of its own

BACKEND = '''
import zipfile
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "kakehashi-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        for file, text in FILES.items():
            wheel.writestr(file, text)
    return name
FILES = {
    "kakehashi-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: kakehashi\\nVersion: 1.0\\n",
    "kakehashi-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "kakehashi-1.0.dist-info/entry_points.txt": "[console_scripts]\\nkakehashi=kakehashi_program:main\\n",
    "kakehashi-1.0.dist-info/RECORD": "",
    "kakehashi_program.py": """
import json, os, sys, torch
def main():
    print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd()}))
    return 3
""",
}
'''
TOML = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "kakehashi"
version = "1.0"
dependencies = ["tiny>=1", "torch>=2"]
[project.optional-dependencies]
dev = ["tinydev"]
"""


class Small:
    """A project in a folder, and the environment variables under which pip sees its wheels and nothing else."""

    def __init__(self, folder: Path):
        self.root = folder / "project"
        self.root.mkdir()
        shutil.copy(ROOT / "bootstrap.py", self.root)
        (self.root / "backend.py").write_text(BACKEND, encoding="utf-8")
        (self.root / "pyproject.toml").write_text(TOML, encoding="utf-8")
        (self.root / "constraints.txt").write_text("tiny==1.5\ntinydev==1.5\ntorch==2.13.0\n", encoding="utf-8")
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        for name, version in (("tiny", "1.5"), ("tiny", "2.0"), ("tinydev", "1.5"), ("torch", "2.13.0")):
            self.add_wheel(name, version)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        mine = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_RETRIES": "0",
        }
        self.environment = {**kept, **mine, "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}

    def add_wheel(self, name: str, version: str) -> None:
        stem = f"{name}-{version}"
        with zipfile.ZipFile(self.wheels / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")

    def call(self, *arguments: str, cwd: Path | None = None, **environment: str):
        script = self.root / "bootstrap.py"
        return run(sys.executable, script, *arguments, cwd=cwd or self.root, env={**self.environment, **environment})

    def installed(self) -> set[str]:
        return {path.name.removesuffix(".dist-info") for path in (self.root / ".venv").rglob("*.dist-info")}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    project = Small(tmp_path_factory.mktemp("ground"))
    project.first = project.call("tour", "--json")
    return project


def test_the_first_call_says_sizes_then_installs_then_runs(small):
    assert small.first.returncode == 3, small.first.stderr  # the program's own
    said = small.first.stderr
    order = ["packages, 50 MB", "PyTorch 2.13.0", "find-links, no-index", "1/3", "2/3 PyTorch 2.13.0, about", "3/3"]
    assert [said.index(part) for part in order] == sorted(said.index(part) for part in order)
    assert {"tiny-1.5", "torch-2.13.0", "kakehashi-1.0"} <= small.installed()
    assert "tinydev-1.5" not in small.installed()


def test_stdout_belongs_to_the_program(small):
    assert json.loads(small.first.stdout)["arguments"] == ["tour", "--json"]


def test_the_second_call_asks_nobody_and_stays_in_the_callers_folder(small, tmp_path):
    done = small.call("start", "my house", "--lang", "ja", cwd=tmp_path, PIP_FIND_LINKS="")
    answer = json.loads(done.stdout)
    assert done.returncode == 3 and done.stderr == ""
    assert answer["arguments"] == ["start", "my house", "--lang", "ja"] and Path(answer["folder"]) == tmp_path


@pytest.mark.parametrize(
    ("need", "variables", "line"),
    [
        ("tiny>=9", {}, r"pip finds no tiny>=9 for Python \S+ on .*\(details: .*pip\.log\)"),
        ("absent", {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "https://localhost:9/"}, "localhost cannot be reached: .*"),
    ],
)
def test_an_update_that_fails_leaves_what_was_there(small, need, variables, line):
    settings = small.root / "pyproject.toml"
    settings.write_text(TOML.replace('"tiny>=1"', f'"{need}"'), encoding="utf-8")
    failed = small.call("tour", **variables)
    settings.write_text(TOML, encoding="utf-8")
    assert failed.returncode == 2 and failed.stdout == ""
    assert re.fullmatch(line, failed.stderr.splitlines()[-1]) and "Traceback" not in failed.stderr
    again = small.call("tour")
    assert again.returncode == 3 and again.stderr == ""


def test_without_the_venv_module_one_line_says_what_to_install(tmp_path):
    project = Small(tmp_path)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ensurepip'] = None", encoding="utf-8")
    done = project.call("install", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2 and re.fullmatch(r".*ensurepip.*apt install python3-venv\)\n", done.stderr)


@pytest.mark.slow
def test_an_install_that_was_killed_is_made_anew(tmp_path):
    project = Small(tmp_path)
    backend = project.root / "backend.py"
    shoot = "    import os; os.kill(int(os.environ['BOSS']), 9)\n"
    backend.write_text(BACKEND.replace("    name =", f"{shoot}    name =", 1), encoding="utf-8")
    boss = (
        "import os, runpy; os.environ['BOSS'] = str(os.getpid()); runpy.run_path('bootstrap.py', run_name='__main__')"
    )
    killed = run(sys.executable, "-c", boss, "tour", cwd=project.root, env=project.environment)
    assert killed.returncode == -9
    leftover = project.root / ".venv" / "half-written"
    leftover.touch()
    backend.write_text(BACKEND, encoding="utf-8")
    assert project.call("tour").returncode == 3
    assert not leftover.exists() and "tiny-1.5" in project.installed()


@pytest.mark.slow
def test_what_the_tests_need_is_added_when_it_is_asked_for(tmp_path):
    project = Small(tmp_path)
    assert project.call("install").returncode == 0 and "tinydev-1.5" not in project.installed()
    assert project.call("install", "--dev").returncode == 0 and "tinydev-1.5" in project.installed()
    assert project.call("install").stderr == ""


# The faces over it


@pytest.mark.parametrize("target", ["install", "tour", "test", "test-slow", "bench", "lint"])
def test_make_is_a_face_over_the_bootstrap(target, tool):
    done = run(tool("make"), "--no-print-directory", "--dry-run", target, "PYTHON=py", "ARGS=--flag")
    command, _, rest = done.stdout.strip().partition(" bootstrap.py ")
    assert done.returncode == 0 and command == "py" and rest.split()[0] == target.partition("-")[0]
    assert ("--slow" in rest) == (target == "test-slow") and ("--flag" in rest) == (target != "lint")


@pytest.mark.parametrize(("lint", "test", "code"), [(0, 0, 0), (0, 1, 1), (1, 0, 1)])
def test_ci_lints_and_tests_and_tells_whether_both_passed(tmp_path, tool, lint, test, code):
    """With stand-ins for make and for the tools that CI would install."""
    make = f'#!/bin/sh\necho "$1 CI=$CI"\n[ "$1" = lint ] && exit {lint}\nexit {test}\n'
    for name, text in (
        ("make", make),
        ("chromium", "#!/bin/sh\n"),
        ("git", "#!/bin/sh\n"),
        ("fc-list", "#!/bin/sh\necho x\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run(tool("bash"), ROOT / ".ci" / "run", cwd=tmp_path, env={**os.environ, "PATH": path, "CI": ""})
    assert done.returncode == code and done.stdout.split("\n") == ["lint CI=true", "test CI=true", ""]


SKIPS = """
import pytest
def test_tool(): pytest.skip("needs chromium")
def test_system(): pytest.skip("only on macOS")
def test_network(): pytest.skip("offline: no package index answered")
"""


@pytest.mark.parametrize(("ci", "outcomes"), [("", "3 skipped"), ("true", "1 failed, 2 skipped")])
def test_a_skip_for_a_missing_tool_is_a_failure_in_ci(tmp_path, ci, outcomes):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPS, encoding="utf-8")
    done = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, env={**os.environ, "CI": ci}
    )
    assert outcomes in done.stdout and done.returncode == bool(ci)
