"""Taobao and Tmall: the gateway (TOP), the message channel (TMC), the calls, the export's file."""
