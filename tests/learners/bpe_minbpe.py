"""A right BPE in the manner of minbpe: statistics, a merge, and a loop that asks for the lowest rank; no more types."""

import re

import regex

from kakehashi.tokenizers.patterns import PATTERNS


def byte_signs():
    table, n = {}, 0
    for b in range(256):
        if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b):
            table[b] = chr(256 + n)
            n += 1
        else:
            table[b] = chr(b)
    return dict(sorted(table.items(), key=lambda item: item[1]))


def count_pieces(texts, pattern="gpt2"):
    compiled = regex.compile(PATTERNS[pattern])
    seen = {}
    for text in texts:
        for match in compiled.finditer(text):
            ids = match.group().encode("utf-8")
            seen[ids] = seen.get(ids, 0) + 1
    return seen


def count_pairs(words):
    stats = {}
    for ids, n in words:
        for pair in zip(ids, ids[1:]):  # noqa: B905
            stats[pair] = stats.get(pair, 0) + n
    return stats


def merge_pair(tokens, pair, new):
    ids, i = list(tokens), 0
    while i < len(ids) - 1:
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            ids = ids[:i] + [new] + ids[i + 2 :]
        i += 1
    return ids


def learn_merges_slowly(words, n_merges):
    place = list(byte_signs()).index
    chunks = [(tuple(map(place, word)), n) for word, n in words.items()]
    merges = {}
    for i in range(n_merges):
        stats = count_pairs(chunks)
        if not stats or max(stats.values()) == 1:
            return list(merges)
        top = max(stats.values())
        pair = sorted(pair for pair, n in stats.items() if n == top)[0]
        merges[pair] = 256 + i
        chunks = [(merge_pair(ids, pair, 256 + i), n) for ids, n in chunks]
    return list(merges)


def merge_slowly(tokens, merges):
    ids = list(tokens)
    while len(ids) >= 2:
        stats = count_pairs([(ids, 1)])
        pair = min(stats, key=lambda p: merges.get(p, (float("inf"), 0))[0])
        if pair not in merges:
            break
        ids = merge_pair(ids, pair, merges[pair][1])
    return tuple(ids)


def cut_special(text, special):
    if len(special) == 0:
        return [text]
    words = list(special)
    words.sort(key=lambda word: (-len(word), word))
    return re.split("(" + "|".join(re.escape(word) for word in words) + ")", text)


def encode_slowly(text, tokens, merges, special, pattern="gpt2", allowed_special=()):
    plain = {raw: i for i, raw in tokens.items() if i not in set(special.values())}
    ranks = {}
    for left, right in merges:
        ranks[left, right] = len(ranks), plain[tokens[left] + tokens[right]]
    ids = []
    for part in cut_special(text, allowed_special):
        if part in allowed_special:
            ids.append(special[part])
            continue
        for chunk in regex.findall(PATTERNS[pattern], part):
            ids.extend(merge_slowly([plain[b"%c" % b] for b in chunk.encode("utf-8")], ranks))
    return ids


def decode(ids, tokens):
    text_bytes = bytearray()
    for idx in ids:
        text_bytes += tokens[idx]
    return text_bytes.decode("utf-8", errors="replace")
