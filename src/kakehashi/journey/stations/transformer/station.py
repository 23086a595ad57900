from kakehashi.journey.stations import Station

STATION = Station(
    "transformer",
    "kakehashi.models.transformer",
    symbols=(
        "positions",
        "attention",
        "Attention.heads",
        "Attention.keys_and_values",
        "Attention.forward",
        "FeedForward.forward",
        "Branch.forward",
        "EncoderLayer.look_around",
        "EncoderLayer.forward",
        "DecoderLayer.read",
        "DecoderLayer.look_back",
        "DecoderLayer.look_at_source",
        "DecoderLayer.forward",
        "Memory.select",
        "cross_entropy",
        "Transformer.__init__",
        "Transformer.embed",
        "Transformer.new_state",
        "Transformer.forward",
    ),
    needs=("gpt2",),
    forbid=("scaled_dot_product_attention", "multi_head_attention_forward", "cross_entropy"),
)
