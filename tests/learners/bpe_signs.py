"""A right BPE in the manner of GPT-2's own encoder: bytes written in its alphabet, words that are tuples of texts."""

from collections import Counter
from functools import lru_cache

import regex as re

from kakehashi.tokenizers import patterns


@lru_cache
def byte_signs():
    bs = list(range(ord("!"), ord("~") + 1)) + list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    cs = bs[:]
    for b in range(2**8):
        if b not in bs:
            bs.append(b)
            cs.append(2**8 + len(cs) - 188)
    return dict(zip(bs, map(chr, cs), strict=True))


def get_pairs(word):
    pairs = set()
    previous = word[0]
    for symbol in word[1:]:
        pairs.add((previous, symbol))
        previous = symbol
    return pairs


def join(word, first, second, joined):
    new_word, i = [], 0
    while i < len(word):
        try:
            j = word.index(first, i)
        except ValueError:
            new_word.extend(word[i:])
            break
        new_word.extend(word[i:j])
        if j < len(word) - 1 and word[j + 1] == second:
            new_word.append(joined)
            i = j + 2
        else:
            new_word.append(word[j])
            i = j + 1
    return tuple(new_word)


def count_pieces(texts, pattern="gpt2"):
    total = sum((Counter(re.findall(patterns.find(pattern), text)) for text in texts), Counter())
    return {word.encode("utf-8"): total[word] for word in total}


def count_pairs(words):
    total = Counter()
    for word, n in words:
        for first, second in zip(word, word[1:], strict=False):
            total[first, second] += n
    return total


def merge_pair(tokens, pair, new):
    return list(join(tuple(tokens), *pair, new))


def learn_merges_slowly(words, n_merges):
    encoder = {sign: i for i, sign in enumerate(byte_signs().values())}
    corpus = {tuple(byte_signs()[b] for b in word): n for word, n in words.items()}
    learnt = []
    while len(learnt) < n_merges:
        total = count_pairs(corpus.items())
        ordered = sorted(total.items(), key=lambda item: (item[1], -encoder[item[0][0]], -encoder[item[0][1]]))
        if not ordered or ordered[-1][1] == 1:
            break
        (first, second), _ = ordered[-1]
        learnt.append((encoder[first], encoder[second]))
        joined = f"{first}{second}#{len(learnt)}"  # two merges may make the same text
        encoder[joined] = 255 + len(learnt)
        # different words stay different: what they are joined from can be read back
        corpus = {join(word, first, second, joined): n for word, n in corpus.items()}
    return learnt


def merge_slowly(tokens, merges):
    word = tuple(tokens)
    while len(word) > 1:
        bigram = min(get_pairs(word), key=lambda pair: merges.get(pair, (float("inf"),)))
        if bigram not in merges:
            break
        word = join(word, *bigram, merges[bigram][1])
    return list(word)


def cut_special(text, special):
    parts, start, i = [], 0, 0
    while i < len(text):
        found = max((s for s in special if text.startswith(s, i)), key=len, default=None)
        if found is None:
            i += 1
            continue
        parts += [text[start:i], found]
        start = i = i + len(found)
    return [*parts, text[start:]]


def encode_slowly(text, tokens, merges, special, pattern="gpt2", allowed_special=()):
    encoder = dict(map(reversed, tokens.items())) | {tokens[i]: i for i in tokens if i not in special.values()}
    bpe_ranks = dict(zip(merges, enumerate(encoder[tokens[a] + tokens[b]] for a, b in merges), strict=True))
    bpe_tokens = []
    *pairs, last = cut_special(text, allowed_special)
    for plain, name in [*zip(pairs[::2], pairs[1::2], strict=True), (last, None)]:
        for word in re.finditer(patterns.find(pattern), plain):
            row = tuple(encoder[bytes((b,))] for b in word[0].encode("utf-8"))
            bpe_tokens.extend(merge_slowly(row, bpe_ranks))
        if name is not None:
            bpe_tokens.append(special[name])
    return bpe_tokens


def decode(ids, tokens):
    byte_encoder = byte_signs()
    byte_decoder = {sign: byte for byte, sign in byte_encoder.items()}
    text = "".join(byte_encoder[byte] for token in ids for byte in tokens[token])
    return bytearray(byte_decoder[sign] for sign in text).decode("utf-8", "replace")
