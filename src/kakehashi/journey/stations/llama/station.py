from kakehashi.journey.stations import Station

STATION = Station(
    "llama",
    "kakehashi.models.llama",
    symbols=(
        "RMSNorm",
        "frequencies",
        "rotate",
        "causal_mask",
        "repeat_heads",
        "attention",
        "SelfAttention",
        "silu",
        "MLP",
        "Block",
        "cross_entropy",
        "Llama",
    ),
    needs=("gpt2",),
    forbid=("scaled_dot_product_attention", "multi_head_attention_forward", "rms_norm", "silu"),
)
