from kakehashi.journey.stations import Station

STATION = Station(
    "resnet",
    "kakehashi.models.resnet",
    symbols=("Conv", "BatchNorm", "Pad", "Block", "cross_entropy", "ResNet"),
    needs=("mlp",),
    forbid=("batch_norm", "native_batch_norm"),
)
