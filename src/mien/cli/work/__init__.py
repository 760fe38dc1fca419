"""What the larger commands do once their options are read: imported by a command when it runs, never for its help."""
