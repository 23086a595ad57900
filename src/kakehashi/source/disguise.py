"""The same program in other words, so that a diff against the reference does not give a fault away.

Equal to the bit are logits, loss, gradients, buffers, the order of random draws, state-dict names and what crashes.
"""

import ast
import builtins
import keyword
import random
import re
from collections.abc import Iterator

from kakehashi.source.cut import strip_comments
from kakehashi.source.edit import Injected, follow, swap
from kakehashi.source.rewrites import REWRITES, Rewrite, Scope, own_names, tensors
from kakehashi.source.text import Function, Splice, Text, parsed

SHARE = 0.6  # of the places where something can be rewritten or renamed, how many are
ROUNDS = 5  # the kinds of rewrite are dealt to as many rounds, each working on what the last one left


def disguise(source: str, seed: int) -> str:
    """An equivalent source text, another one for each seed. Comments stay: `strip_comments` drops them."""
    return _disguised(source, seed, ())[0]


def hide(injected: Injected, seed: int) -> Injected:
    """A fault in disguise, without comments but shapes. `lines` follow the fault to where it now stands."""
    source, lines = _disguised(injected.source, seed, injected.lines)
    bare = strip_comments(source)
    return Injected(bare, follow(source, bare, lines), injected.form)


def _disguised(source: str, seed: int, lines: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    rng = random.Random(seed)
    kinds = rng.sample(list(REWRITES.values()), len(REWRITES))
    for i in range(ROUNDS):
        rewritten = rewrite(source, kinds[i::ROUNDS], rng)
        lines = follow(source, rewritten, lines)
        source = rewritten
    return rename_locals(source, rng), lines  # renaming keeps every line in its place


def rewrite(source: str, kinds: list[Rewrite], rng: random.Random, share: float = SHARE) -> str:
    """Rewrite a share of the places that some kinds of rewrite find; of places that overlap, one."""
    text = parsed(source)
    places = [site for scope in scopes(text) for kind in kinds for site in kind(text, scope)]
    splices: list[Splice] = []
    for site in rng.sample(places, len(places)):
        if rng.random() < share and (splice := swap(text, site)):
            if all(splice.end <= other.start or other.end <= splice.start for other in splices):
                splices.append(splice)
    return text.splice(splices)


def scopes(text: Text) -> Iterator[Scope]:
    """The functions and methods that can be rewritten: none with a `$name`, which would be taken for a hole, or with a
    string over several lines, which would not survive a change of indentation."""
    names = {node.id for node in ast.walk(text.tree) if isinstance(node, ast.Name)}
    arguments = {node.arg for node in ast.walk(text.tree) if isinstance(node, ast.arg)}
    taken = frozenset(names | arguments | {part for name in text.symbols for part in name.split(".")})
    torch = re.search(r"^(import|from) torch\b", text.source, re.MULTILINE) is not None
    for nodes in text.symbols.values():
        for node in nodes:
            if isinstance(node, Function):
                body = node.body[ast.get_docstring(node) is not None :]
                strings = [
                    each
                    for statement in body
                    for each in ast.walk(statement)
                    if isinstance(each, ast.JoinedStr) or isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                if not any("\n" in text.cut(each) or "$" in text.cut(each) for each in strings):
                    # another engine's Tensor has not all that torch's has
                    yield Scope(node, tensors(node) if torch else frozenset(), taken)


def rename_locals(source: str, rng: random.Random, share: float = SHARE) -> str:
    """Other names for a share of the local variables. Those of one capital letter stay: they are the axes."""
    text = parsed(source)
    splices = []
    for scope in scopes(text):
        taken = set(scope.taken)
        for name in sorted(own_names(scope.node)):
            shorter = [name[:n] for n in (1, 2, 3) if n < len(name)]
            choices = [new for new in (*shorter, name.removesuffix("s"), f"{name}s", f"{name}_") if _free(new, taken)]
            if choices and rng.random() < share:
                new = rng.choice(choices)
                taken.add(new)
                uses = (node for node in ast.walk(scope.node) if isinstance(node, ast.Name) and node.id == name)
                splices += [Splice(*text.span(node), new.encode()) for node in uses]
    return text.splice(splices)


def _free(name: str, taken: set[str]) -> bool:
    return name not in taken and name != "l" and not hasattr(builtins, name) and not keyword.iskeyword(name)
