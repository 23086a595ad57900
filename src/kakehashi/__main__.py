"""`python -m kakehashi` is `kakehashi`."""

from kakehashi.cli import main

main()
