"""Real faults: servers killed, paused and cut off."""
