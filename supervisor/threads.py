"""How the threads are called that the end of the program does not wait for."""

SLOW_WORK = "slow work"
