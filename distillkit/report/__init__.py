"""One self-contained page per run, and the figures that it shares with dataset cards."""
