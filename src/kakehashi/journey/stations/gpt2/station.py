from kakehashi.journey.stations import Station

STATION = Station(
    "gpt2",
    "kakehashi.models.gpt2",
    symbols=(
        "LayerNorm",
        "gelu",
        "causal_mask",
        "attention",
        "CausalSelfAttention",
        "MLP",
        "Block",
        "cross_entropy",
        "GPT",
    ),
    needs=("recurrent",),
    forbid=("scaled_dot_product_attention", "multi_head_attention_forward", "layer_norm", "gelu"),
)
