from kakehashi.journey.stations import Station

STATION = Station(
    "by_hand",
    "kakehashi.autograd.by_hand",
    symbols=(
        "embedding_backward",
        "linear_backward",
        "batch_norm_backward",
        "batch_norm_backward_short",
        "tanh_backward",
        "cross_entropy_backward",
        "cross_entropy_backward_short",
        "backward",
    ),
    needs=("mlp",),
)
