"""What was served, held against what was promised: drift, realised performance, the report."""
