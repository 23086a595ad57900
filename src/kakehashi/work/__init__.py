"""What carries a model of one's own into work: log alarms first."""
