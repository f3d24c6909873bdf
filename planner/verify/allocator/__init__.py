"""From births and deaths of storages to the bytes that an allocator holds: fragmentation, and resident memory."""

from planner.verify.allocator.replay import Kind, MemoryEvent, ReplayResult, replay

__all__ = ["Kind", "MemoryEvent", "ReplayResult", "replay"]
