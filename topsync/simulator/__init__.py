"""The platform, locally: gateway, message channel and exports, with ground truth and fault switches."""
