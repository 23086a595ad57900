from kakehashi.journey.stations import Station

STATION = Station(
    "mlp",
    "kakehashi.models.mlp",
    symbols=("Linear", "BatchNorm", "cross_entropy", "MLP"),
    needs=("bigram",),
    forbid=("batch_norm",),
)
