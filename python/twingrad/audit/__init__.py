"""What the comparison catches and what it does not: planted mistakes, false alarms, broken files."""
