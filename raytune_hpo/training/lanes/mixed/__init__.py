"""Many chains of layers, of any depth, width and batch size, as one program: docs/mixed_lanes.md."""
