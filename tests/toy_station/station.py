from kakehashi.journey.stations import Station

STATION = Station("toy_station", "toy_reference", ("squash", "Gain", "Net"), forbid=("softplus",), wall=2)
