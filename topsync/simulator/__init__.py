"""The platform on this machine: gateway, message channel and exports, with ground truth and faults."""
