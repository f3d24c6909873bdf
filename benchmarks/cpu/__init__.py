"""Real training steps on this machine's processor beside what trainfit says of them."""
