"""A KV cache that is allocated once."""

from torch import Tensor

from kakehashi.models.protocol import KVCache


class PreallocatedCache(KVCache):
    """KVCache with room for `capacity` tokens: a new token is written in place, the old ones are not copied again."""

    def __init__(self, batch_size: int, capacity: int):
        super().__init__(batch_size)
        self.capacity = capacity
        self.rooms: list[tuple[Tensor, Tensor]] = []  # a layer's whole (B, H, capacity, D); `layers` holds views of it

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As KVCache.append. Raises ValueError for more than `capacity` tokens."""
        if layer == len(self.rooms):
            self.rooms.append((self._room(k), self._room(v)))
            self.layers.append((k[:, :, :0], v[:, :, :0]))
        begin = self.layers[layer][0].shape[2]
        end = begin + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"a cache with room for {self.capacity} tokens cannot take token {end}")
        room_k, room_v = self.rooms[layer]
        room_k[:, :, begin:end] = k
        room_v[:, :, begin:end] = v
        self.layers[layer] = (room_k[:, :, :end], room_v[:, :, :end])
        return self.layers[layer]

    def _room(self, x: Tensor) -> Tensor:
        """Memory for tokens like those of x (B, H, T, D)."""
        return x.new_empty((*x.shape[:2], self.capacity, x.shape[3]))
