"""The APIs that topsync uses, as typed functions, one module per noun: `await trades.fullinfo(client, ...)`.

Instants are aware and UTC here, GMT+8 text on the wire. Every function may raise any `TopError`; only what
is particular to it is named. All of them may be repeated without harm, and the client does so when an
answer is lost; what a repetition means is written where it means anything.
"""
