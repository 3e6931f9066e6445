"""What no library computes as fast as this machine can, in C++; compiled where it runs, once."""
