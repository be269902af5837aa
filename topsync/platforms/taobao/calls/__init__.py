"""The APIs that topsync uses, as typed functions, one module per noun: `await trades.fullinfo(client, ...)`.

Instants are aware and UTC here, GMT+8 text on the wire. Every function may raise any `TopError`; its
docstring names only errors that are particular to it. All calls may be repeated without harm, and the client
does so when an answer is lost; a docstring says what a repetition does where it does something.
"""
