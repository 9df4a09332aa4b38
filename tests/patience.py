"""How long tests wait for another process: what hangs shall end, what a slow machine takes its time for shall not."""

PATIENCE_S = 2400
