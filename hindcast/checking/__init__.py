"""`hindcast check`: faults of a problem's files that can be seen in seconds, before anything runs."""
