"""What every run has, whatever it trains: steps, log, checkpoints to resume from, guards, devices."""
