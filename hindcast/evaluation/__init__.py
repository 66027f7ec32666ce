"""How good models are: metrics, slices, plots, scored periods, and alarms for what is too good to be true."""
