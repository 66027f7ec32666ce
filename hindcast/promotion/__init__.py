"""Which package is in use: the gate, the champion, decisions by hand, and the way back."""
