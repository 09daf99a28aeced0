"""What each language costs: workloads timed on every side, and what their times say."""
