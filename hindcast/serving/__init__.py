"""The champion over HTTP, and what was asked of it: forms, answers, the durable log, replays of simulated time."""
