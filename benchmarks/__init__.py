"""Speed and memory of the server, as ratios: numbers that mean the same on any machine."""
