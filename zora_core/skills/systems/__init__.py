"""Systems: their health, the history of their runs, and what stands out in measurements."""
