"""Settings of a method fitted to one network."""
