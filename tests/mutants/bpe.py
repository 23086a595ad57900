from mutants import mutant

KEYS = {
    "bpe-alphabet-in-order-of-bytes": "signs_in_order_of_bytes",
    "bpe-soft-hyphen-unseen": "signs_soft_hyphen",
    "bpe-pattern-ignored": "pieces_pattern",
    "bpe-pieces-once-a-text": "pieces_once",
    "bpe-counts-unweighted": "learn_unweighted",
    "bpe-pairs-once-a-word": "pairs_of_a_word",
    "bpe-overlap-merged-twice": "merge_overlap",
    "bpe-first-place-alone": "merge_first",
    "bpe-tie-first-seen": "tie_first",
    "bpe-tie-highest-numbers": "tie_highest",
    "bpe-merges-of-one-place": "learn_once_counted",
    "bpe-number-of-a-byte": "learn_number",
    "bpe-left-to-right": "rank_left",
    "bpe-last-learnt-first": "rank_last_place",
    "bpe-rightmost-place": "rank_place",
    "bpe-special-shortest-first": "special_shortest",
    "bpe-special-as-pattern": "special_pattern",
    "bpe-special-from-plain-text": "encode_special_always",
    "bpe-special-takes-bytes": "encode_special_bytes",
    "bpe-merges-across-pieces": "encode_across",
    "bpe-decoded-token-by-token": "decode_by_token",
}

BEST = "min(counts, key=lambda pair: (-counts[pair], pair), default=None)"

COUNT = """
counts = Counter()
for tokens, count in words:
    for pair in pairwise(tokens):
        counts[pair] += count
return counts
"""

MERGE = """
merged, i = [], 0
while i < len(tokens):
    if tuple(tokens[i : i + 2]) == pair:
        merged.append(new)
        i += 2
    else:
        merged.append(tokens[i])
        i += 1
return merged
"""

SLOWLY = """
tokens = list(tokens)
while known := [(*merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]:
    _, new, i = min(known)
    tokens[i : i + 2] = [new]
return tokens
"""

PIECES = """
for text in texts:
    counts.update(cut(text))
"""


def signs(key: str, result: str) -> tuple:
    return mutant(key, ("byte_signs", "return $all", f"return {result}"))


def pieces(key: str, result: str) -> tuple:
    return mutant(key, ("count_pieces", PIECES, f"for text in texts:\n    {result}"))


def pairs(key: str, code: str) -> tuple:
    return mutant(key, ("count_pairs", COUNT, code))


def merge(key: str, code: str) -> tuple:
    return mutant(key, ("merge_pair", MERGE, code))


def learn(key: str, find: str, replace: str) -> tuple:
    return mutant(key, ("learn_merges_slowly", find, replace))


def slowly(key: str, code: str) -> tuple:
    return mutant(key, ("merge_slowly", SLOWLY, code))


def special(key: str, result: str) -> tuple:
    return mutant(key, ("cut_special", "regex.split($pattern, text)", result))


def encode(key: str, find: str, replace: str) -> tuple:
    return mutant(key, ("encode_slowly", find, replace))


def decode(key: str, result: str) -> tuple:
    return mutant(key, ("decode", "return $all", f"return {result}"))


MUTANTS = {
    # the alphabet
    "signs-turned": signs(
        "signs_turned",
        "{chr(byte): byte for byte in seen} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}",
    ),
    "signs-latin": signs("signs_latin", "{byte: chr(byte) for byte in range(256)}"),
    "signs-by-byte": signs("signs_by_byte", "{b: chr(b) for b in seen} | {b: chr(0x100 + b) for b in rest}"),
    "signs-rest-forgotten": signs("signs_rest", "{byte: chr(byte) for byte in seen}"),
    "signs-space": mutant("signs_space", ("byte_signs", "range(0x21, 0x7F)", "range(0x20, 0x7F)")),
    "signs-rest-first": signs(
        "bpe_differs", "{b: chr(0x100 + i) for i, b in enumerate(rest)} | {b: chr(b) for b in seen}"
    ),
    "signs-a-pair": signs("bpe_kind", "seen, rest"),
    # pieces
    "pieces-whole": pieces("pieces_whole", "counts[text] += 1"),
    "pieces-stripped": pieces("pieces_stripped", "counts.update(p.strip() for p in cut(text) if p.strip())"),
    "pieces-at-spaces": pieces("pieces_at_spaces", "counts.update(text.split())"),
    "pieces-texts": mutant("pieces_texts", ("count_pieces", "piece.encode()", "piece")),
    "pieces-of-the-last-text": pieces("pieces_last_text", "counts = Counter(cut(text))"),
    "pieces-of-all-texts-joined": mutant(
        "pieces_joined", ("count_pieces", PIECES, 'counts.update(cut("".join(texts)))')
    ),
    "pieces-read-twice": mutant(
        "pieces_read_twice",
        (
            "count_pieces",
            PIECES,
            "if sum(1 for text in texts):\n    for text in texts:\n        counts.update(cut(text))",
        ),
    ),
    "pieces-not-returned": mutant("none", ("count_pieces", "return $all", "counts = $all")),
    # pairs
    "pairs-unweighted": mutant("pairs_unweighted", ("count_pairs", "counts[pair] += count", "counts[pair] += 1")),
    "pairs-across-words": pairs(
        "pairs_across",
        "row = [token for tokens, count in words for token in count * list(tokens)]\nreturn Counter(pairwise(row))",
    ),
    "pairs-unordered": mutant(
        "pairs_unordered", ("count_pairs", "counts[pair] += count", "counts[tuple(sorted(pair))] += count")
    ),
    "pairs-overlapping-once": pairs(
        "pairs_overlap",
        """
        counts = Counter()
        for tokens, count in words:
            before = None
            for i, pair in enumerate(pairwise(tokens)):
                if before == (i - 1, pair):
                    continue
                counts[pair] += count
                before = i, pair
        return counts
        """,
    ),
    "pairs-with-their-ends": pairs(
        "bpe_more",
        """
        counts = Counter()
        for tokens, count in words:
            for i in range(len(tokens)):
                counts[tuple(tokens[i : i + 2])] += count
        return counts
        """,
    ),
    "pairs-of-short-words": mutant(
        "raised",
        (
            "count_pairs",
            "for pair in pairwise(tokens): counts[pair] += count",
            "counts[tokens[0], tokens[1]] += count\nfor pair in pairwise(tokens[1:]):\n    counts[pair] += count",
        ),
    ),
    # merging
    "merge-in-place": merge(
        "bpe_changes_input",
        """
        i = 0
        while i < len(tokens) - 1:
            if tuple(tokens[i : i + 2]) == pair:
                tokens[i : i + 2] = [new]
            i += 1
        return tokens
        """,
    ),
    "merge-kept": mutant("merge_overlap", ("merge_pair", "merged.append(new)", "merged.extend((new, tokens[i + 1]))")),
    "merge-end-lost": merge(
        "merge_end",
        """
        merged, i = [], 0
        while i < len(tokens) - 1:
            if tuple(tokens[i : i + 2]) == pair:
                merged.append(new)
                i += 2
            else:
                merged.append(tokens[i])
                i += 1
        return merged
        """,
    ),
    "merge-from-the-right": merge(
        "merge_from_right",
        """
        merged, i = [], len(tokens)
        while i > 0:
            if tuple(tokens[max(i - 2, 0) : i]) == pair:
                merged.insert(0, new)
                i -= 2
            else:
                merged.insert(0, tokens[i - 1])
                i -= 1
        return merged
        """,
    ),
    "merge-unordered": mutant(
        "merge_unordered",
        ("merge_pair", "tuple(tokens[i : i + 2]) == pair", "sorted(tokens[i : i + 2]) == sorted(pair)"),
    ),
    "merge-a-list-for-a-tuple": mutant(
        "merge_untouched", ("merge_pair", "tuple(tokens[i : i + 2]) == pair", "tokens[i : i + 2] == pair")
    ),
    "merge-in-a-text": merge(
        "bpe_differs",
        """
        row = " ".join(map(str, tokens)).replace(f"{pair[0]} {pair[1]}", str(new))
        return [int(token) for token in row.split()]
        """,
    ),
    "merge-by-identity": mutant(
        "bpe_differs",
        (
            "merge_pair",
            "tuple(tokens[i : i + 2]) == pair",
            "i + 1 < len(tokens) and tokens[i] is pair[0] and tokens[i + 1] is pair[1]",
        ),
    ),
    # learning
    "learn-bytes": learn("learn_bytes", "{byte: i for i, byte in enumerate(byte_signs())}", "range(256)"),
    "learn-counted-once": learn(
        "learn_once",
        """
        for new in range(256, 256 + n_merges):
            counts = count_pairs(spelled)
            best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
            if best is None or counts[best] < 2:
                break
            merges.append(best)
            spelled = [(merge_pair(tokens, best, new), count) for tokens, count in spelled]
        return merges
        """,
        """
        counts = count_pairs(spelled)
        return [pair for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)) if counts[pair] > 1][:n_merges]
        """,
    ),
    "learn-from-257": learn("learn_first", "range(256, 256 + n_merges)", "range(257, 257 + n_merges)"),
    "learn-no-end": learn("raised", BEST, "min(counts, key=lambda pair: (-counts[pair], pair))"),
    "tie-right-first": learn(
        "tie_right", BEST, "min(counts, key=lambda pair: (-counts[pair], pair[1], pair[0]), default=None)"
    ),
    "tie-by-bytes": mutant(
        "tie_bytes",
        (
            "learn_merges_slowly",
            "merges = []",
            "merges, raw = [], dict(enumerate(map(lambda byte: bytes([byte]), number)))",
        ),
        (
            "learn_merges_slowly",
            BEST,
            "min(counts, key=lambda pair: (-counts[pair], raw[pair[0]], raw[pair[1]]), default=None)",
        ),
        ("learn_merges_slowly", "merges.append(best)", "merges.append(best)\nraw[new] = raw[best[0]] + raw[best[1]]"),
    ),
    "learn-counts-kept": mutant(
        "bpe_differs",
        ("learn_merges_slowly", "merges = []", "merges, counts = [], Counter()"),
        ("learn_merges_slowly", "counts = count_pairs(spelled)", "counts |= count_pairs(spelled)"),
        ("learn_merges_slowly", "merges.append(best)", "merges.append(best)\ndel counts[best]"),
    ),
    # encoding a piece
    "slowly-one-merge": slowly(
        "rank_one_merge",
        """
        tokens = list(tokens)
        if known := [(*merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]:
            _, new, i = min(known)
            tokens[i : i + 2] = [new]
        return tokens
        """,
    ),
    "slowly-by-number": mutant("rank_number", ("merge_slowly", "min(known)", "min(known, key=lambda each: each[1:])")),
    "slowly-the-rank": mutant("rank_is_token", ("merge_slowly", "_, new, i = min(known)", "new, _, i = min(known)")),
    "slowly-longest": slowly(
        "rank_longest",
        """
        spelled = {}
        for (a, b), (_, new) in merges.items():
            spelled[new] = spelled.get(a, (a,)) + spelled.get(b, (b,))
        row, i = [], 0
        while i < len(tokens):
            fits = [(len(raw), new) for new, raw in spelled.items() if tuple(tokens[i : i + len(raw)]) == raw]
            size, token = max(fits, default=(1, tokens[i]))
            row.append(token)
            i += size
        return row
        """,
    ),
    "slowly-in-place": mutant("bpe_changes_input", ("merge_slowly", "tokens = list(tokens)", "")),
    # special tokens
    "special-lost": mutant("special_lost", ("cut_special", "f\"({'|'.join($all)})\"", "'|'.join($all)")),
    "special-no-empty": special("special_no_empty", "[part for part in regex.split($pattern, text) if part]"),
    "special-as-listed": mutant(
        "special_listed", ("cut_special", "sorted(special, key=len, reverse=True)", "list(special)")
    ),
    "special-bar-escaped": mutant(
        "bpe_differs",
        (
            "cut_special",
            "map(regex.escape, longest_first)",
            "map(lambda each: each.replace('|', '[|]'), longest_first)",
        ),
    ),
    "special-letters": mutant("special_letters", ("cut_special", "if not special: return [text]", "")),
    # a text
    "encode-gpt2-always": encode("encode_pattern", "patterns.find(pattern)", 'patterns.find("gpt2")'),
    "encode-special-never": encode(
        "encode_special_never", "cut_special(text, allowed_special)", "cut_special(text, ())"
    ),
    "encode-by-number": encode(
        "encode_numbers", "(rank, number[tokens[a] + tokens[b]])", "(number[tokens[a] + tokens[b]],) * 2"
    ),
    "encode-no-accents": encode("raised", "piece.encode()", 'piece.encode("latin-1")'),
    # back to text
    "decode-to-bytes": decode("decode_bytes", 'b"".join([tokens[number] for number in ids])'),
    "decode-token-by-token-ignoring": decode(
        "decode_by_token_dropped", '"".join([tokens[number].decode(errors="ignore") for number in ids])'
    ),
    "decode-strict": decode("decode_strict", 'b"".join([tokens[number] for number in ids]).decode()'),
    "decode-unknown": decode(
        "decode_unknown", 'b"".join([tokens.get(number, b"") for number in ids]).decode(errors="replace")'
    ),
}

FURTHER = {
    "merge-recursive": merge(
        "raised",
        """
        if len(tokens) < 2:
            return list(tokens)
        if tuple(tokens[:2]) == pair:
            return [new, *merge_pair(tokens[2:], pair, new)]
        return [tokens[0], *merge_pair(tokens[1:], pair, new)]
        """,
    ),
    "slowly-recursive": slowly(
        "raised",
        """
        known = [(*merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
        if not known:
            return list(tokens)
        _, new, i = min(known)
        return merge_slowly([*tokens[:i], new, *tokens[i + 2 :]], merges)
        """,
    ),
    "slowly-the-beginning": mutant(
        "bpe_differs", ("merge_slowly", "tokens = list(tokens)", "tokens = list(tokens)[:500]")
    ),
    "special-of-any-case": special("bpe_differs", "regex.split($pattern, text, flags=regex.I)"),
    "decode-line-breaks": decode(
        "bpe_differs",
        'b"".join([tokens[number] for number in ids]).decode(errors="replace").replace("\\r\\n", "\\n")',
    ),
    "encode-the-longest": encode(
        "encode_whole",
        "encoded += merge_slowly($row, known)",
        """
        raw = piece.encode()
        while raw:
            size = max(n for n in range(1, len(raw) + 1) if raw[:n] in number)
            encoded.append(number[raw[:size]])
            raw = raw[size:]
        """,
    ),
    "merge-neighbours": merge(
        "merge_neighbours",
        "return [new if each == pair else each[0] for each in pairwise(tokens)]",
    ),
    "special-raw": mutant(
        "special_raw", ("cut_special", "regex.split($pattern, text)", "regex.split('|'.join(longest_first), text)")
    ),
    "special-longest-anywhere": mutant(
        "bpe_differs",
        (
            "cut_special",
            "return regex.split($pattern, text)",
            """
            parts = [text]
            for each in longest_first:
                parts = [
                    piece
                    for part in parts
                    for piece in ([part] if part in special else regex.split(f"({regex.escape(each)})", part))
                ]
            return parts
            """,
        ),
    ),
    "slowly-in-order-of-the-table": slowly(
        "rank_table",
        """
        for pair, (_, new) in merges.items():
            tokens = merge_pair(tokens, pair, new)
        return tokens
        """,
    ),
    "slowly-remembers": mutant(
        "bpe_differs",
        (
            "merge_slowly",
            "tokens = list(tokens)",
            "done = merge_slowly.__dict__.setdefault(tuple(tokens), list(tokens))\ntokens = done",
        ),
    ),
    "encode-whole-pieces": encode(
        "encode_whole",
        "encoded += merge_slowly($row, known)",
        "raw = piece.encode()\nencoded += [number[raw]] if raw in number else merge_slowly($row, known)",
    ),
    "encode-remembers": encode(
        "bpe_differs",
        "encoded += merge_slowly($row, known)",
        """
        seen = encode_slowly.__dict__
        if piece not in seen:
            seen[piece] = merge_slowly($row, known)
        encoded += seen[piece]
        """,
    ),
    "encode-a-set-of-allowed": encode(
        "raised", "cut_special(text, allowed_special)", "cut_special(text, allowed_special & set(special))"
    ),
    "pieces-counted-on": mutant(
        "bpe_more", ("count_pieces", "Counter()", "vars(count_pieces).setdefault('counts', Counter())")
    ),
    "pieces-without-the-end": pieces("bpe_lacks", "counts.update(cut(text.rstrip()))"),
    "tie-by-signs": mutant(
        "bpe_differs",
        ("learn_merges_slowly", "merges = []", "merges, signs = [], list(byte_signs().values())"),
        (
            "learn_merges_slowly",
            BEST,
            "min(counts, key=lambda pair: (-counts[pair], signs[pair[0]], signs[pair[1]]), default=None)",
        ),
        (
            "learn_merges_slowly",
            "merges.append(best)",
            "merges.append(best)\nsigns.append(signs[best[0]] + signs[best[1]])",
        ),
    ),
    "decode-each": decode("decode_each", '"".join([tokens[number].decode() for number in ids])'),
    "decode-without-a-mark": decode(
        "bpe_differs", 'b"".join([tokens[number] for number in ids]).decode("utf-8-sig", errors="replace")'
    ),
    "signs-codes": signs("signs_codes", "{b: b for b in seen} | {b: 256 + i for i, b in enumerate(rest)}"),
    "signs-of-bytes": signs(
        "signs_of_bytes",
        "{bytes([b]): chr(b) for b in seen} | {bytes([b]): chr(0x100 + i) for i, b in enumerate(rest)}",
    ),
    "signs-delete": mutant("signs_delete", ("byte_signs", "range(0x21, 0x7F)", "range(0x21, 0x80)")),
    "signs-no-break-space": mutant("signs_no_break", ("byte_signs", "range(0xA1, 0xAD)", "range(0xA0, 0xAD)")),
    "signs-ascii": mutant(
        "signs_ascii",
        ("byte_signs", "[*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]", "list(range(0x21, 0x7F))"),
    ),
    "signs-one-off": mutant("bpe_entry", ("byte_signs", "chr(0x100 + i)", "chr(0x101 + i)")),
    "pieces-spelled": mutant("pieces_spelled", ("count_pieces", "piece.encode()", "tuple(piece.encode())")),
    "pieces-of-the-first-text": mutant(
        "pieces_first_text",
        ("count_pieces", PIECES, "for text in texts:\n    counts.update(cut(text))\n    break"),
    ),
    "pieces-as-a-set": mutant(
        "pieces_set",
        ("count_pieces", "{piece.encode(): count for piece, count in $all}", "{p.encode(): 1 for p in counts}"),
    ),
    "pieces-by-the-name": mutant("pieces_name", ("count_pieces", "patterns.find(pattern)", "pattern")),
    "pieces-in-lower-case": pieces("pieces_lower", "counts.update(cut(text.lower()))"),
    "pieces-ascii": mutant(
        "bpe_lacks", ("count_pieces", "regex.compile($pattern)", "regex.compile($pattern, regex.ASCII)")
    ),
    "pairs-turned": mutant("pairs_turned", ("count_pairs", "counts[pair] += count", "counts[pair[::-1]] += count")),
    "pairs-every-other": mutant(
        "pairs_every_other", ("count_pairs", "pairwise(tokens)", "zip(tokens[::2], tokens[1::2])")
    ),
    "pairs-without-the-last": mutant("pairs_last", ("count_pairs", "pairwise(tokens)", "pairwise(tokens[:-1])")),
    "pairs-around": mutant(
        "pairs_around", ("count_pairs", "pairwise(tokens)", "zip(tokens, [*tokens[1:], *tokens[:1]])")
    ),
    "pairs-as-a-list": mutant("bpe_kind", ("count_pairs", "return counts", "return counts.most_common()")),
    "pairs-replaced": mutant("bpe_entry", ("count_pairs", "counts[pair] += count", "counts[pair] = count")),
    "merge-turned": mutant(
        "merge_turned", ("merge_pair", "tuple(tokens[i : i + 2]) == pair", "tuple(tokens[i : i + 2]) == pair[::-1]")
    ),
    "merge-any": merge("merge_any", "return [new if token in pair else token for token in tokens]"),
    "merge-dropped": mutant("merge_dropped", ("merge_pair", "merged.append(new)", "merged += []")),
    "learn-unweighted": learn("learn_unweighted", "count_pairs(spelled)", "count_pairs([(t, 1) for t, _ in spelled])"),
    "learn-three-times": learn("learn_least_3", "counts[best] < 2", "counts[best] <= 2"),
    "learn-one-less": learn("learn_one_less", "range(256, 256 + n_merges)", "range(256, 255 + n_merges)"),
    "learn-one-more": learn("learn_one_more", "range(256, 256 + n_merges)", "range(256, 257 + n_merges)"),
    "learn-n-tokens": learn("learn_n_tokens", "range(256, 256 + n_merges)", "range(256, n_merges)"),
    "learn-rarest": learn("learn_rarest", BEST, "min(counts, key=lambda pair: (counts[pair], pair), default=None)"),
    "tie-last-seen": learn("tie_last", BEST, "max(reversed(counts), key=counts.get, default=None)"),
    "tie-longest": mutant(
        "tie_longest",
        ("learn_merges_slowly", "merges = []", "merges, size = [], dict.fromkeys(range(256), 1)"),
        (
            "learn_merges_slowly",
            BEST,
            "min(counts, key=lambda pair: (-counts[pair], -size[pair[0]] - size[pair[1]], pair), default=None)",
        ),
        (
            "learn_merges_slowly",
            "merges.append(best)",
            "merges.append(best)\nsize[new] = size[best[0]] + size[best[1]]",
        ),
    ),
    "slowly-not-at-all": slowly("rank_unmerged", "return [token for token in tokens]"),
    "slowly-from-the-right": mutant("rank_right", ("merge_slowly", "min(known)", "known[-1]")),
    "slowly-last-and-leftmost": mutant(
        "rank_last", ("merge_slowly", "min(known)", "min(known, key=lambda each: (-each[0], each[2]))")
    ),
    "slowly-empty": mutant("raised", ("merge_slowly", "tokens = list(tokens)", "tokens = [tokens[0], *tokens[1:]]")),
    "special-alone": special("special_alone", "regex.findall('|'.join(map(regex.escape, longest_first)), text)"),
    "special-sorted": mutant(
        "special_shortest", ("cut_special", "sorted(special, key=len, reverse=True)", "sorted(special)")
    ),
    "special-at-the-first": special("special_first", "regex.split($pattern, text, 1)"),
    "special-uncut": special("special_uncut", "[text]"),
    "encode-bytes": encode("encode_bytes", "merge_slowly($bytes, known)", "$bytes"),
    "encode-stripped": encode("encode_stripped", "cut(part)", "part.split()"),
    "encode-numbers-of-training": encode("bpe_differs", "(rank, number[tokens[a] + tokens[b]])", "(rank, 256 + rank)"),
    "encode-as-a-text": encode("bpe_kind", "return encoded", 'return " ".join(map(str, encoded))'),
    "decode-shown": decode(
        "decode_shown", 'b"".join([tokens[number] for number in ids]).decode(errors="backslashreplace")'
    ),
    "decode-latin": decode("decode_latin", 'b"".join([tokens[number] for number in ids]).decode("latin-1")'),
    "decode-spaced": decode("decode_spaced", '" ".join([tokens[number].decode(errors="replace") for number in ids])'),
    "decode-a-list": decode(
        "decode_unknown", 'b"".join([[*tokens.values()][number - 7] for number in ids]).decode(errors="replace")'
    ),
    "decode-dropped": decode("decode_dropped", 'b"".join([tokens[number] for number in ids]).decode(errors="ignore")'),
}
