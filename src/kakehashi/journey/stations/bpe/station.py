from kakehashi.journey.stations import Station

STATION = Station(
    "bpe",
    "kakehashi.tokenizers.bpe",
    symbols=(
        "byte_signs",
        "count_pieces",
        "count_pairs",
        "merge_pair",
        "learn_merges_slowly",
        "merge_slowly",
        "cut_special",
        "encode_slowly",
        "decode",
    ),
    needs=("bigram",),
)
