"""Make .venv/ beside this file and run Kakehashi in it. Needs Python 3.11 or newer, and nothing else.

What it will download, and how big that is, it says before it does. Packages come from where pip is configured to look
(pip.conf, PIP_* variables, proxies and certificates are pip's own business and pass through). The second run finds
.venv/kakehashi.json and starts at once. Exit codes: those of the command; 2 the call or the machine was wrong.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
EXE = ".exe" if os.name == "nt" else ""
PYTHON = BIN / f"python{EXE}"
STATE = VENV / "kakehashi.json"
LOG = VENV / "pip.log"

OLDEST = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
COMMANDS = ("tour", "start", "test", "lint", "bench", "install")
NEED_DEV = ("test", "lint", "bench")

# MB, measured for Python 3.11 in November 2026: to download, and on disk.
BASE_MB, BASE_DISK = 50, 300
DEV_MB, DEV_DISK = 190, 850
TORCH_MB = {"linux": "200 (CPU) / 2700 (CUDA)", "win32": "130", "darwin": "120", CPU_INDEX: "200"}
TORCH_DISK = 900

TEXTS = {
    "en": {
        "usage": """usage: python bootstrap.py [--lang en|ja] [--torch-index URL|none] COMMAND ...

  tour               all models trained in four minutes, and a report
  start DIR          a workspace of your own in DIR
  test [--slow] ...  the tests; what follows goes to pytest
  lint               ruff, the import contract, pyright
  bench NAME ...     a benchmark
  install [--dev]    only make .venv/ (--dev: what the tests need, too)

  --torch-index URL  where PyTorch comes from (or KAKEHASHI_TORCH_INDEX); none: wherever pip looks anyway.
                     Unless it is given, Linux takes the CPU build from {cpu_index},
                     but only if pip is not configured to look somewhere of your own.
""",
        "command": "unknown command {command!r}: one of {commands}",
        "surplus": "{command} does not take {surplus}",
        "python": "Python {seen} is too old: Kakehashi needs {oldest} or newer; call bootstrap.py with that one",
        "venv": "{python} has no venv or no ensurepip module: cannot make {venv} (Debian: apt install python3-venv)",
        "venv_failed": "cannot make {venv}: {why}",
        "disk": "too little space for {venv}: {free} MB are free, about {needed} MB are needed",
        "plan": "Into {venv}, at most: packages, {base} MB to download; then PyTorch {version}, {torch} MB.",
        "from_pip": "Packages come from where your pip is configured to look ({own}), and from nowhere else.",
        "from_pypi": "Packages come from the Python package index, pypi.org.",
        "from_index": "PyTorch comes from {index} (--torch-index changes that).",
        "step_base": "1/3 packages ...",
        "step_torch": "2/3 PyTorch {version}, about {torch} MB ...",
        "step_self": "3/3 Kakehashi itself ...",
        "pip_space": "the disk is full: make room and call this again (details: {log})",
        "pip_certificate": "the certificate of {host} is not trusted: name the CA file of your company in PIP_CERT",
        "pip_proxy": "the proxy does not let pip through to {host}: check HTTPS_PROXY, now {proxy}",
        "pip_network": "{host} cannot be reached: connect, or name a mirror in pip.conf or PIP_INDEX_URL",
        "pip_untrusted": "pip does not trust plain http from {host}: use https, or name it in PIP_TRUSTED_HOST",
        "pip_broken": "the download broke off: call this again (details: {log})",
        "pip_missing": "pip finds no {what} for Python {python} on {system} where it looks (details: {log})",
        "pip_other": "pip failed: {what} (details: {log})",
        "system": "{name}: {why}",
        "interrupted": "Interrupted. The same command goes on.",
    },
    "ja": {
        "usage": """使い方: python bootstrap.py [--lang en|ja] [--torch-index URL|none] コマンド ...

  tour               4 分で全モデルを学習し、レポートを作る
  start DIR          DIR に自分の作業フォルダーを作る
  test [--slow] ...  テスト。続く引数は pytest に渡す
  lint               ruff、インポート規約、pyright
  bench NAME ...     ベンチマーク
  install [--dev]    .venv/ を作るだけ (--dev: テストに必要なものも入れる)

  --torch-index URL  PyTorch の入手先 (環境変数 KAKEHASHI_TORCH_INDEX でも可)。none: pip の設定どおりの場所。
                     指定がなければ、Linux では CPU 版を {cpu_index} から取る。
                     ただし pip に独自の入手先が設定されていれば、それだけを使う。
""",
        "command": "{command!r} というコマンドはありません。次のどれかです: {commands}",
        "surplus": "{command} は {surplus} を受け取りません",
        "python": "Python {seen} は古すぎます。{oldest} 以上の Python で bootstrap.py を呼んでください",
        "venv": "{python} に venv か ensurepip がなく、{venv} を作れません (Debian: apt install python3-venv)",
        "venv_failed": "{venv} を作れません: {why}",
        "disk": "{venv} のための空きが足りません。空き {free} MB、必要量は約 {needed} MB です",
        "plan": "{venv} に入れます。最大で、まずパッケージ {base} MB、次に PyTorch {version} {torch} MB を取ります。",
        "from_pip": "パッケージは pip に設定された場所 ({own}) だけから取り、ほかには接続しません。",
        "from_pypi": "パッケージは Python のパッケージ索引 pypi.org から取ります。",
        "from_index": "PyTorch は {index} から取ります (--torch-index で変えられます)。",
        "step_base": "1/3 パッケージ ...",
        "step_torch": "2/3 PyTorch {version}、約 {torch} MB ...",
        "step_self": "3/3 架け橋 ...",
        "pip_space": "ディスクがいっぱいです。空きを作ってもう一度実行してください (詳細: {log})",
        "pip_certificate": "{host} の証明書を信頼できません。会社の CA ファイルを PIP_CERT に指定してください",
        "pip_proxy": "プロキシーが {host} への接続を通しません。HTTPS_PROXY (現在 {proxy}) を確かめてください",
        "pip_network": "{host} に届きません。接続するか、ミラーを pip.conf か PIP_INDEX_URL に指定してください",
        "pip_untrusted": "{host} は http なので信頼されません。https にするか PIP_TRUSTED_HOST に指定してください",
        "pip_broken": "ダウンロードが途中で切れました。もう一度実行してください (詳細: {log})",
        "pip_missing": "pip の見る場所に、Python {python}、{system} 用の {what} がありません (詳細: {log})",
        "pip_other": "pip が失敗しました: {what} (詳細: {log})",
        "system": "{name}: {why}",
        "interrupted": "中断しました。同じコマンドで続きから始まります。",
    },
}

# What to read out of pip's log, most telling first: a lost network, too, ends in "No matching distribution".
FETCH = r"Could not fetch URL https?://(?:[^@/\s]+@)?(?P<host>[^/\s:]+)\S*: (?i:.*?%s)"
PIP_TROUBLES = (
    ("pip_space", r"No space left on device|Errno 28\b|not enough space on the disk"),
    ("pip_certificate", FETCH % "certificate"),
    ("pip_proxy", FETCH % "proxy"),
    ("pip_network", FETCH % "(?:connection error|timed out)"),
    ("pip_untrusted", r"repository located at (?P<host>\S+) is not a trusted"),
    ("pip_broken", r"ReadTimeout|ConnectionReset|IncompleteRead|ProtocolError"),
    ("pip_missing", r"(?:No matching distribution found for|Cannot install) (?P<what>[^\s,]+)"),
    ("pip_other", r"ERROR: (?P<what>.+)"),
)


class Stop(Exception):
    """The call or the machine is wrong: a key of TEXTS, and its values."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class Voice:
    """Says lines of TEXTS on stderr; stdout belongs to the command."""

    def __init__(self, lang: str) -> None:
        self.texts = TEXTS[lang]

    def __call__(self, key: str, **values: object) -> None:
        print(self.texts[key].format(**values), file=sys.stderr, flush=True)


def language(option: Optional[str]) -> str:
    """ "ja" or "en": the option, $KAKEHASHI_LANG, else the system's."""
    names = ("KAKEHASHI_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    spoken = option or next((os.environ[name] for name in names if os.environ.get(name)), None)
    if not spoken and os.name == "nt":
        import ctypes

        spoken = "ja" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 0x11 else "en"
    return "ja" if (spoken or "").lower().startswith("ja") else "en"


def fingerprint(root: Path) -> str:
    """Changes when what should be installed changes, or where."""
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [str(root), project["project"], project["build-system"]]
    wanted.append((root / "constraints.txt").read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


def read_state() -> Optional[dict]:
    """What an earlier call left in .venv/, or None: there is no environment, or somebody else made it."""
    try:
        return json.loads(STATE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_state(**state: object) -> None:
    new = STATE.with_suffix(".new")
    new.write_text(json.dumps(state), encoding="utf-8")
    os.replace(new, STATE)


def decide(state: Optional[dict], usable: bool, wanted: dict) -> str:
    """ "ready", "update" (pip goes over what is there), "create", or "rebuild" (made here, and no good: thrown away).

    `usable`: .venv/ holds a Python that exists. `wanted`: fingerprint, python, torch_index, dev. An environment that
    somebody else made is never thrown away.
    """
    made_here = state is not None and state["made_here"]
    if not usable:
        return "rebuild" if made_here else "create"
    if state is None:
        return "update"
    if made_here and (state["busy"] or any(state[key] != wanted[key] for key in ("python", "torch_index"))):
        return "rebuild"
    same = not state["busy"] and state["fingerprint"] == wanted["fingerprint"] and state["dev"] >= wanted["dev"]
    return "ready" if same else "update"


def make_venv() -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Stop("venv", python=sys.executable, venv=VENV)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, errors="replace")
    if made.returncode:
        lines = (made.stdout + made.stderr).strip().splitlines()
        raise Stop("venv_failed", venv=VENV, why=lines[-1] if lines else made.returncode)


def pip(*arguments: str) -> None:
    """Run pip in .venv/. Its progress goes to our stderr; its complaints become one line if it fails."""
    LOG.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--log", str(LOG), *arguments]
    environment = dict(os.environ, PIP_USER="0")
    if not sys.stderr.isatty():
        environment["PIP_PROGRESS_BAR"] = "off"
    done = subprocess.run(
        command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    )
    if done.returncode:
        log = LOG.read_text(encoding="utf-8", errors="replace") if LOG.exists() else ""
        raise explain(log or done.stderr)


def explain(log: str) -> Stop:
    """The one line that pip's log of a failure comes down to."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    values = {
        "proxy": re.sub(r"//[^@/]*@", "//", proxy),  # without the password
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "log": LOG,
    }
    for key, pattern in PIP_TROUBLES:
        found = re.search(pattern, log)
        if found:
            return Stop(key, **values, **found.groupdict())
    return Stop("pip_other", what=log.strip()[-200:], log=LOG)


def own_sources(config: str) -> list:
    """Which settings in the output of `pip config list` send pip elsewhere than to the public index."""
    found = set()
    for line in config.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        value = value.strip("'\"")
        if key in ("index-url", "extra-index-url", "find-links", "no-index") and value and "//pypi.org/" not in value:
            found.add(key)
    return sorted(found)


def torch_source(choice: Optional[str], own: list, system: str) -> Optional[str]:
    """The extra index for PyTorch, or None: where pip looks anyway. For Linux the public index has the CUDA build."""
    if choice:
        return None if choice == "none" else choice
    return CPU_INDEX if system == "linux" and not own else None


def install(say: Voice, action: str, state: Optional[dict], wanted: dict) -> None:
    """Bring .venv/ to what pyproject.toml and constraints.txt ask for; PyTorch second, its size said first."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    constraints = ROOT / "constraints.txt"
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", constraints.read_text(encoding="utf-8")))
    version = pins["torch"]
    needs = [need for need in project["dependencies"] if not re.match(r"torch\b", need)]
    if wanted["dev"]:
        needs += [need for extra in project["optional-dependencies"].values() for need in extra]

    if action == "rebuild":
        shutil.rmtree(VENV)
        state = None
    made_here = state["made_here"] if state else not VENV.exists()
    if action in ("rebuild", "create"):
        free = shutil.disk_usage(ROOT).free // 2**20
        needed = BASE_DISK + TORCH_DISK + (DEV_DISK if wanted["dev"] else 0)
        if free < needed:
            raise Stop("disk", venv=VENV, free=free, needed=needed)
        VENV.mkdir(exist_ok=True)
        write_state(made_here=made_here, busy=True, **wanted)
        make_venv()

    config = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, errors="replace"
    )
    own = own_sources(config.stdout)
    index = torch_source(wanted["torch_index"], own, sys.platform)
    torch = TORCH_MB.get(index) or TORCH_MB.get(sys.platform, "?")
    say("plan", venv=VENV, base=BASE_MB + (DEV_MB if wanted["dev"] else 0), version=version, torch=torch)
    say("from_pip" if own else "from_pypi", own=", ".join(own))
    if index:
        say("from_index", index=index)

    build = f"torch=={version}+cpu" if index == CPU_INDEX else f"torch=={version}"
    write_state(made_here=made_here, busy=True, **wanted)
    try:
        say("step_base")
        pip("install", "--quiet", "-c", str(constraints), *needs)
        say("step_torch", version=version, torch=torch)
        pip("install", "-c", str(constraints), build, *(["--extra-index-url", index] if index else []))
        say("step_self")
        pip("install", "--quiet", "--no-deps", "-e", str(ROOT))
    except Stop as stop:
        if stop.key != "pip_space":  # pip gave up before it touched anything: what was there is still good
            write_state(**{**wanted, "fingerprint": "", **(state or {}), "made_here": made_here, "busy": False})
        raise
    write_state(made_here=made_here, busy=False, **wanted)


def ensure(say: Voice, dev: bool, torch_index: Optional[str]) -> None:
    """Have .venv/ ready; quick when it is."""
    state = read_state()
    wanted = {
        "fingerprint": fingerprint(ROOT),
        "python": "{}.{}".format(*sys.version_info),
        "torch_index": torch_index or (state or {}).get("torch_index"),
        "dev": dev or bool(state and state["dev"]),
    }
    action = decide(state, PYTHON.exists(), wanted)
    if action != "ready":
        install(say, action, state, wanted)


def call(*command: object) -> int:
    return subprocess.call([str(part) for part in command], cwd=ROOT)


def lint() -> int:
    """All four, also when the first finds something; 1 if any does."""
    ruff = BIN / f"ruff{EXE}"
    checks = (
        [ruff, "check"],
        [ruff, "format", "--check"],
        [BIN / f"lint-imports{EXE}", "--no-logo"],
        [BIN / f"pyright{EXE}"],
    )
    os.environ["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # it would ask the package index for a newer one
    codes = [call(*check) for check in checks]
    return int(any(codes))


def test(arguments: list) -> int:
    """pytest on two processes, one thread each; `--slow` runs the slow tests instead of the others."""
    slow = "--slow" in arguments
    arguments = [argument for argument in arguments if argument != "--slow"]
    os.environ["OMP_NUM_THREADS"] = "1"
    which = ["-m", "slow" if slow else "not slow"]
    return call(PYTHON, "-m", "pytest", "-n", "2", "--dist", "worksteal", *which, *arguments)


def kakehashi(arguments: list) -> int:
    """Hand over to the installed program, in the caller's folder."""
    program = [str(BIN / f"kakehashi{EXE}"), *arguments]
    if os.name == "nt":
        return subprocess.call(program)
    sys.stdout.flush()
    os.execv(program[0], program)


def run(say: Voice, options: argparse.Namespace, rest: list) -> int:
    command = options.command
    if command is None:
        print(say.texts["usage"].format(cpu_index=CPU_INDEX), end="")
        return 0 if options.help else 2
    if command not in COMMANDS:
        raise Stop("command", command=command, commands=", ".join(COMMANDS))
    if sys.version_info < OLDEST:
        raise Stop("python", seen=platform.python_version(), oldest="{}.{}".format(*OLDEST))
    dev = command in NEED_DEV
    if command in ("install", "lint"):
        dev = dev or "--dev" in rest
        surplus = [argument for argument in rest if (command, argument) != ("install", "--dev")]
        if surplus:
            raise Stop("surplus", command=command, surplus=" ".join(surplus))

    data = ROOT.parent / "shared" / "data"
    if data.is_dir():
        os.environ.setdefault("KAKEHASHI_DATA", str(data))
    ensure(say, dev, options.torch_index)
    if command == "install":
        return 0
    if command == "lint":
        return lint()
    if command == "test":
        return test(rest)
    return kakehashi([command, *rest, *(["--lang", options.lang] if options.lang else [])])


def main(arguments: list) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that lacks a character still gets the rest
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--lang", choices=("en", "ja"))
    parser.add_argument("--torch-index", default=os.environ.get("KAKEHASHI_TORCH_INDEX"))
    parser.add_argument("command", nargs="?")
    options, rest = parser.parse_known_args(arguments)
    options.help = "-h" in rest or "--help" in rest
    say = Voice(language(options.lang))
    try:
        return run(say, options, rest)
    except Stop as stop:
        say(stop.key, **stop.values)
        return 2
    except OSError as error:
        say("system", name=error.filename or VENV, why=error.strerror)
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
