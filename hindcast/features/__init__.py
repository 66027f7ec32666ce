"""Features as known then: Feast over the lake, joins as of an instant, and the one reader that serving uses."""
