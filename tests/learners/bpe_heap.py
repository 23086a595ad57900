"""A right BPE by someone who wants it fast: a linked row with a heap of pairs, and counts that are kept up to date."""

import heapq
import itertools
import operator
from collections import defaultdict

import regex

from kakehashi.tokenizers import patterns


def byte_signs():
    visible = set(map(ord, "".join(map(chr, range(256))))) - {*range(33), 173, *range(127, 161)}
    hidden = iter(range(256, 512))
    signs = {b: b if b in visible else next(hidden) for b in range(256)}
    return {b: chr(signs[b]) for b in sorted(signs, key=signs.__getitem__)}


def count_pieces(texts, pattern="gpt2"):
    total = defaultdict(int)
    for piece in itertools.chain.from_iterable(map(regex.compile(patterns.PATTERNS[pattern]).findall, texts)):
        total[bytes(piece, "utf-8")] += 1
    return total


def count_pairs(words):
    total = defaultdict(int)
    for tokens, n in words:
        for left, right in enumerate(range(1, len(tokens))):
            total[tokens[left], tokens[right]] += n
    return dict(total)


def merge_pair(tokens, pair, new):
    row = []
    fresh = True  # the token on top may still be merged
    for token in tokens:
        if row and fresh and (row[-1], token) == pair:
            row[-1] = new
            fresh = False
        else:
            row.append(token)
            fresh = True
    return row


def learn_merges_slowly(words, n_merges):
    order = {b: i for i, b in enumerate(byte_signs())}
    rows = [([order[b] for b in word], n) for word, n in words.items() if len(word) > 1]
    counts, where = defaultdict(int), defaultdict(set)
    for i, (row, n) in enumerate(rows):
        for pair in itertools.pairwise(row):
            counts[pair] += n
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in counts.items()]
    heapq.heapify(heap)
    learnt = []
    while heap and len(learnt) < n_merges:
        n, pair = heapq.heappop(heap)
        if -n != counts[pair]:
            continue
        if -n == 1:
            break
        new = 256 + len(learnt)
        learnt.append(pair)
        changed = set()
        for i in where.pop(pair):
            row, times = rows[i]
            after = merge_pair(row, pair, new)
            for sign, each in ((-1, row), (1, after)):
                for neighbours in itertools.pairwise(each):
                    counts[neighbours] += sign * times
                    changed.add(neighbours)
            for neighbours in itertools.pairwise(after):
                where[neighbours].add(i)
            rows[i] = after, times
        for each in changed:
            if counts[each] > 0:
                heapq.heappush(heap, (-counts[each], each))
    return learnt


def merge_slowly(tokens, merges):
    n = len(tokens)
    row, right, left = dict(enumerate(tokens)), list(range(1, n + 1)), list(range(-1, n))
    heap = []

    def offer(i):
        if i >= 0 and right[i] < n and (found := merges.get((row[i], row[right[i]]))):
            heapq.heappush(heap, (found[0], i, row[i], row[right[i]], found[1]))

    for i in range(n - 1):
        offer(i)
    while heap:
        _, i, a, b, new = heapq.heappop(heap)
        if row.get(i) != a or right[i] >= n or row.get(right[i]) != b:
            continue
        gone = right[i]
        del row[gone]
        row[i], right[i] = new, right[gone]
        left[right[i]] = i
        offer(left[i])
        offer(i)
    return [row[i] for i in sorted(row)]


def cut_special(text, special):
    special = sorted(special, key=operator.methodcaller("__len__"))
    if not special:
        return [text]
    finder = regex.compile("|".join(f"(?:{regex.escape(each)})" for each in reversed(special)))
    parts, end = [], 0
    for match in finder.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(match[0])
        end = match.end()
    parts.append(text[end:])
    return parts


def encode_slowly(text, tokens, merges, special, pattern="gpt2", allowed_special=()):
    forbidden = frozenset(special.values())
    number = {}
    for i, raw in tokens.items():
        if i not in forbidden:
            number[raw] = i
    known = {pair: (rank, number[tokens[pair[0]] + tokens[pair[1]]]) for rank, pair in enumerate(map(tuple, merges))}
    cache = {}

    def plain(part):
        for piece in regex.findall(patterns.find(pattern), part):
            if piece not in cache:
                raw = piece.encode()
                cache[piece] = merge_slowly([number[raw[i : i + 1]] for i in range(len(raw))], known)
            yield from cache[piece]

    parts = cut_special(text, frozenset(allowed_special))
    found = list(plain(parts[0]))
    for name, part in zip(parts[1::2], parts[2::2], strict=True):
        found += [special[name], *plain(part)]
    return found


def decode(ids, tokens):
    return str(b"".join(map(tokens.__getitem__, ids)), encoding="utf-8", errors="replace")
