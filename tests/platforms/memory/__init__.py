"""A second platform, in memory, that differs from Taobao in all that a platform may differ in.

It pushes by HTTP callbacks, lists by time of update with a depth limit and from page 0, answers every call
with an envelope of its own, has no bulk export, and says with other words how far an order is. `shop` is the
platform as it is by itself; `platform` is what topsync needs of it, behind the port; `process` is how a
process of topsync gets it.
"""
