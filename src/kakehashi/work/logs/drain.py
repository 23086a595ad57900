"""Drain: a stream of log messages sorted into templates, by a tree of fixed depth.

    Receiving block blk_1 from 10.0.0.1     learnt first: the template is the message
    Receiving block blk_2 from 10.0.0.7     near enough: where the two differ, the template gets <*>
    Receiving block <*> from <*>            what the group of both is known by

Paper: He, Zhu, Zheng & Lyu, "Drain: An Online Log Parsing Approach with Fixed Depth Tree" (ICWS 2017).
Differences from the paper, as in drain3: words that masks know for values are <*> before the tree sees them; among
groups equally near, the one with more <*> wins; a bounded number of groups, the one unused for longest is dropped, and
with it the branch that led to nothing else. Where a leaf has thousands of groups, few are compared: those that have a
rare word in common with the message.
Difference from drain3, whose groups are the same else: a template keeps a word of text. Where only "[<*>] <*>" would be
left of two messages, there are two groups, as it would cover every sentence of a language without blanks.
Words are what stands between blanks.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import eq, itemgetter
from typing import Any, Self

from kakehashi.work.logs.errors import LogError, of_kind, of_saved
from kakehashi.work.logs.masks import WILDCARD, Mask, Masks

SEEN = 10_000  # messages remembered while nothing new is learnt

Words = tuple[str, ...]
Key = int | str  # below the root the number of words, below that a word or <*>


@dataclass(frozen=True)
class Config:
    depth: int = 4  # levels: root, number of words, depth - 3 first words, groups
    similarity: float = 0.5  # share of a message's words that a template must have in common with it
    max_children: int = 100  # branches of a node; one of them is kept for <*>
    max_groups: int | None = 10_000  # templates kept, those used last; None: all

    def __post_init__(self):
        if self.depth < 3:
            raise LogError(f"depth must be at least 3, got {self.depth}")
        if not 0 <= self.similarity <= 1:
            raise LogError(f"similarity must be between 0 and 1, got {self.similarity}")
        if self.max_children < 2:
            raise LogError(f"max_children must be at least 2, got {self.max_children}")
        if self.max_groups is not None and self.max_groups < 1:
            raise LogError(f"max_groups must be at least 1, or None, got {self.max_groups}")


class Group:
    """The messages of one template: its number (from 1, never used again), its words, and how many messages it has."""

    def __init__(self, id: int, words: Iterable[str], path: tuple[Key, ...], count: int = 0):
        self.id = id
        # None stands for <*>: it equals no word, not even a <*> of a message, so that values never count as alike
        self.words = tuple(None if word == WILDCARD else word for word in words)
        self.path = path  # the branches to its leaf: as a template widens, its own words lead there no more
        self.count = count
        self.n_wild = self.words.count(None)
        self.has_text = any(word is not None and _is_text(word) for word in self.words)

    @property
    def template(self) -> str:
        return " ".join(WILDCARD if word is None else word for word in self.words)

    def common(self, words: Words) -> int:
        """How many words the template has in common with a message of the same length."""
        return sum(map(eq, self.words, words))

    def covers(self, words: Words) -> bool:
        """Whether the message is the template with something in place of each <*>."""
        return self.common(words) + self.n_wild == len(words) and self.fits(words)

    def fits(self, words: Words) -> bool:
        """Not where the template has no word of text, and the message one in place of a <*>."""
        return self.has_text or not any(
            mine is None and _has_letter(word) for mine, word in zip(self.words, words, strict=True)
        )

    def takes(self, words: Words) -> bool:
        """Whether it may widen to cover the message: it keeps a word of text, or loses no word with a letter."""
        pairs = list(zip(self.words, words, strict=True))
        keeps = any(mine == word and _is_text(word) for mine, word in pairs)
        return keeps or not any(mine != word and (_has_letter(mine or "") or _has_letter(word)) for mine, word in pairs)

    def widen(self, words: Words) -> None:
        """<*> wherever the message differs."""
        self.words = tuple(mine if mine == word else None for mine, word in zip(self.words, words, strict=True))
        self.n_wild = self.words.count(None)
        self.has_text = any(word is not None and _is_text(word) for word in self.words)


class Node:
    """A node of the tree: branches or, in a leaf, groups."""

    def __init__(self):
        self.children: dict[Key, Node] = {}
        self.groups: dict[int, Group] = {}  # by id
        self.having: dict[tuple[int, str], dict[int, Group]] = {}  # (place, word) -> the groups that have it there

    def add(self, group: Group) -> None:
        self.groups[group.id] = group
        for at in _fixed(group):
            self.having.setdefault(at, {})[group.id] = group

    def remove(self, group: Group) -> None:
        del self.groups[group.id]
        for at in _fixed(group):
            del self.having[at][group.id]
            if not self.having[at]:
                del self.having[at]

    def candidates(self, words: Words, n_common: int) -> Iterable[Group]:
        """All groups that have so many words in common with a message, and some others.

        Such a group has one at least of any len(words) - n_common + 1 of the words: the rarest here are looked up.
        """
        if n_common == 0:
            return self.groups.values()
        having = sorted((self.having.get(at, {}) for at in enumerate(words)), key=len)
        found: dict[int, Group] = {}
        for groups in having[: len(words) - n_common + 1]:
            found |= groups
        return found.values()


class Templates:
    """Groups by their templates. Those with <*> in the same places are told by what stands elsewhere: in a dict."""

    def __init__(self):
        # number of words, places that are not <*> -> the words there -> groups, by id
        self._known: dict[int, dict[tuple[int, ...], dict[Any, dict[int, Group]]]] = {}

    def add(self, group: Group) -> None:
        places, fixed = self._key(group)
        same_places = self._known.setdefault(len(group.words), {}).setdefault(places, {})
        same_places.setdefault(fixed, {})[group.id] = group

    def remove(self, group: Group) -> None:
        (places, fixed), n_words = self._key(group), len(group.words)
        del self._known[n_words][places][fixed][group.id]
        if not self._known[n_words][places][fixed]:
            del self._known[n_words][places][fixed]
        if not self._known[n_words][places]:
            del self._known[n_words][places]
        if not self._known[n_words]:
            del self._known[n_words]

    def covering(self, words: Words) -> Iterator[Group]:
        """The groups whose template covers a message."""
        for places, groups in self._known.get(len(words), {}).items():
            yield from (group for group in groups.get(_at(places, words), {}).values() if group.fits(words))

    def _key(self, group: Group) -> tuple[tuple[int, ...], Any]:
        places = tuple(place for place, _ in _fixed(group))
        return places, _at(places, group.words)


class Drain:
    """Templates of a stream of messages. `groups`: id -> Group, the one used last at the end."""

    def __init__(self, config: Config | None = None, masks: Masks | None = None):
        self.config = config or Config()
        self.masks = masks or Masks.load()
        self.groups: OrderedDict[int, Group] = OrderedDict()
        self.root = Node()
        self.templates = Templates()
        self.n_made = 0
        # as long as nothing is learnt, an equal message finds the same group
        self._learnt: dict[Words, Group] = {}
        self._matched: dict[Words, Group | None] = {}

    def learn(self, message: str) -> Group:
        """The group of a message, which learns from it; a new one (its count is 1) where none is near enough."""
        words = self.masks.words(message)
        group = self._learnt.get(words)
        if group is None:
            group = self._nearest(words)
            if group is not None and group.covers(words):
                _remember(self._learnt, words, group)
            else:
                self._learnt.clear()
                self._matched.clear()
                if group is None:
                    group = self._plant(words)
                else:
                    self._widen(group, words)
        group.count += 1
        self.groups.move_to_end(group.id)
        return group

    def adopt(self, template: str) -> Group:
        """A group of its own for a template, however near others are; its count is 0."""
        self._learnt.clear()
        self._matched.clear()
        return self._plant(tuple(template.split()))

    def match(self, message: str) -> Group | None:
        """The group whose template covers the message, that with the fewest <*>; None: never seen. Learns nothing."""
        words = self.masks.words(message)
        if words not in self._matched:
            leaf = self._leaf(words)
            here = leaf.groups if leaf else {}
            # a branch made later can hide an older leaf from messages that were learnt there: look elsewhere, too
            covering = self.templates.covering(words)
            found = min(covering, key=lambda group: (group.id not in here, group.n_wild, group.id), default=None)
            _remember(self._matched, words, found)
        return self._matched[words]

    def parameters(self, group: Group, message: str) -> list[tuple[str, str]]:
        """(name, value) of what stands in the message in place of the template's <*>, from left to right.

        The name is a mask's; it is "word" where no mask takes the whole word and it only differs between messages.
        """
        found = []
        for kept, word in zip(group.words, message.split(), strict=True):
            if kept is None or WILDCARD in kept:
                found += self.values(kept, word)
        return found

    def values(self, kept: str | None, word: str) -> list[tuple[str, str]]:
        """The `parameters` in one word of a message. kept: the template's in its place, None for <*>."""
        if kept is not None and WILDCARD not in kept:
            return []
        values = self.masks.values(word)
        whole = len(values) == 1 and values[0][1] == word
        return [("word", word)] if kept is None and not whole else values

    def _nearest(self, words: Words) -> Group | None:
        """Of the groups in its leaf that take the message the one with most words in common; None: too few are."""
        leaf = self._leaf(words)
        if leaf is None:
            return None
        similarity = self.config.similarity
        n_common = math.ceil(similarity * len(words) - 1e-6)  # not one too many where the product is rounded up
        candidates = leaf.candidates(words, n_common)
        for group in sorted(candidates, key=lambda each: (-each.common(words), -each.n_wild, each.id)):
            if words and group.common(words) / len(words) < similarity:
                return None
            if group.takes(words):
                return group
        return None

    def _prefix(self, words: Words) -> Words:
        """The words that lead through the tree; the last one never does, so that messages of one word can meet."""
        return words[: max(0, min(self.config.depth - 3, len(words) - 1))]

    def _leaf(self, words: Words) -> Node | None:
        """Down the tree: by the number of words, then by the first words, each by its own branch or else by <*>."""
        node = self.root.children.get(len(words))
        for word in self._prefix(words):
            if node is None:
                return None
            node = node.children.get(word) or node.children.get(WILDCARD)
        return node

    def _plant(self, words: Words) -> Group:
        """A new group, and the branches to it."""
        if len(self.groups) == self.config.max_groups:
            self._drop(next(iter(self.groups.values())))
        path: list[Key] = [len(words)]
        node = self.root.children.setdefault(len(words), Node())
        for word in self._prefix(words):
            path.append(self._branch(node, word))
            node = node.children.setdefault(path[-1], Node())
        self.n_made += 1
        group = self.groups[self.n_made] = Group(self.n_made, words, tuple(path))
        node.add(group)
        self.templates.add(group)
        return group

    def _widen(self, group: Group, words: Words) -> None:
        leaf = self._nodes(group)[-1]
        leaf.remove(group)
        self.templates.remove(group)
        group.widen(words)
        leaf.add(group)
        self.templates.add(group)

    def _branch(self, node: Node, word: str) -> Key:
        """Under which branch a new word goes: its own, or <*> where it looks like a value or the node is full."""
        if word in node.children:
            return word
        n_words = len(node.children) - (WILDCARD in node.children)
        return WILDCARD if any(map(str.isdigit, word)) or n_words >= self.config.max_children - 1 else word

    def _drop(self, group: Group) -> None:
        """Forget a group, and every branch that leads to nothing now."""
        del self.groups[group.id]
        self.templates.remove(group)
        nodes = self._nodes(group)
        nodes[-1].remove(group)
        for parent, key, node in reversed(list(zip(nodes, group.path, nodes[1:], strict=False))):
            if not node.groups and not node.children:
                del parent.children[key]

    def _nodes(self, group: Group) -> list[Node]:
        """From the root to a group's leaf."""
        nodes = [self.root]
        for key in group.path:
            nodes.append(nodes[-1].children[key])
        return nodes

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: what is learnt after `from_dict` is what would have been learnt here."""
        return {
            "format": 1,
            "config": asdict(self.config),
            "masks": [asdict(mask) for mask in self.masks.masks],
            "n_made": self.n_made,
            "groups": [
                {"id": g.id, "template": g.template, "count": g.count, "path": list(g.path)}
                for g in self.groups.values()
            ],
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The Drain of `to_dict`. Raises LogError where it is of a later format, and what Python raises at damage."""
        if saved["format"] != 1:
            raise LogError(f"templates of format {saved.get('format')!r} cannot be read here, 1 can: update kakehashi")
        drain = cls(of_saved(Config, saved["config"]), Masks([of_saved(Mask, mask) for mask in saved["masks"]]))
        drain.n_made = of_kind(saved["n_made"], int)
        for row in saved["groups"]:
            id, count = of_kind(row["id"], int), of_kind(row["count"], int)
            group = Group(id, row["template"].split(), tuple(row["path"]), count)
            drain.groups[group.id] = group
            node = drain.root
            for key in group.path:
                node = node.children.setdefault(key, Node())
            node.add(group)
            drain.templates.add(group)
        return drain


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word))


def _is_text(word: str) -> bool:
    """Whether a word has letters, and no value in it: "[job_<*>]" tells messages apart no more than <*> does."""
    return WILDCARD not in word and _has_letter(word)


def _fixed(group: Group) -> list[tuple[int, str]]:
    """The places and words of a template that are not <*>."""
    return [(place, word) for place, word in enumerate(group.words) if word is not None]


def _at(places: tuple[int, ...], words: Sequence[str | None]) -> Any:
    """The words at these places: of one place the word."""
    return itemgetter(*places)(words) if places else ()


def _remember(cache: dict, words: Words, group: Group | None) -> None:
    if len(cache) >= SEEN:
        cache.clear()
    cache[words] = group
