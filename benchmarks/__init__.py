"""What skep costs, measured beside what it could cost: see docs/performance.md."""
